// Package broker runs the NATS server inside the service: JetStream for what
// must last, MQTT for the gateways.
//
// It guarantees: what JetStream acknowledged is on the disk (every write is
// synced); one process at a time, of the user who owns it, works on a data
// directory; a gateway gets in
// only with its own id, client id and secret, and can then publish on nothing
// but its own lanes and hear nothing but its own acks; the service's own
// connections never leave the process.
package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"gatehouse/protocol/wire"
)

const (
	serverName   = "gatehouse-cloud"
	account      = "$G" // the server's default account; the only one in use
	readyTimeout = 5 * time.Minute
	readyStep    = 100 * time.Millisecond // between looks at why it is not

	// headroom is what the service's own messages need beside a payload of the
	// size a gateway may send: subject, headers, a compressor's bad day.
	headroom = 64 << 10
)

// Errors of starting.
var (
	// ErrLocked occurs when another process works on the data directory.
	ErrLocked = errors.New("data directory is in use by another process")
	// ErrOwner occurs when the data directory belongs to another user.
	ErrOwner = errors.New("data directory belongs to another user")
	// ErrListen occurs when the MQTT address cannot be listened on.
	ErrListen = errors.New("cannot listen for MQTT")
)

// Options say where the broker keeps its data and whom it listens to.
type Options struct {
	Dir      string       // data directory; created if absent
	MQTTAddr string       // host:port, port 0 for any; empty means no listener
	Log      *slog.Logger // required
}

// Broker is a running server. Close stops it.
type Broker struct {
	srv     *server.Server
	opts    *server.Options
	lock    *os.File
	log     *slog.Logger
	issuer  nkeys.KeyPair
	service nkeys.KeyPair // of the service's own connections, new at every start
	mqtt    string
	disk    disk
	callout *nats.Conn
	refused atomic.Uint64
}

// Start takes the data directory, starts the server and waits until it serves.
func Start(ctx context.Context, o Options) (_ *Broker, err error) {
	if o.Dir == "" || o.Log == nil {
		return nil, errors.New("broker: Dir and Log are required")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w (hint: create it, owned by the user the service runs as)", err)
	}
	lock, err := takeLock(o.Dir)
	if err != nil {
		return nil, err
	}
	b := &Broker{lock: lock, log: o.Log}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if b.issuer, err = nkeys.CreateAccount(); err != nil {
		return nil, fmt.Errorf("issuer key: %w", err)
	}
	if b.service, err = nkeys.CreateUser(); err != nil {
		return nil, fmt.Errorf("service key: %w", err)
	}
	if b.disk, err = measure(o.Dir); err != nil {
		return nil, err
	}
	if b.opts, err = b.serverOptions(o); err != nil {
		return nil, err
	}
	if b.srv, err = server.NewServer(b.opts); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	lines := newLogger(o.Log)
	b.srv.SetLoggerV2(lines, o.Log.Enabled(ctx, slog.LevelDebug), false, false)
	b.srv.Start()
	if err := b.awaitReady(ctx, lines); err != nil {
		return nil, err
	}
	if o.MQTTAddr != "" {
		b.mqtt = net.JoinHostPort(b.opts.MQTT.Host, strconv.Itoa(b.opts.MQTT.Port))
	}
	return b, nil
}

func (b *Broker) serverOptions(o Options) (*server.Options, error) {
	issuer, err := b.issuer.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("issuer key: %w", err)
	}
	service, err := b.service.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("service key: %w", err)
	}
	opts := &server.Options{
		ServerName: serverName,
		DontListen: true,
		NoSigs:     true,
		MaxPayload: wire.MaxPayload + headroom,
		JetStream:  true,
		StoreDir:   o.Dir,
		SyncAlways: true, // the promise behind every ack; the default loses minutes of acked messages at a power cut
		Nkeys:      []*server.NkeyUser{{Nkey: service}},
		AuthCallout: &server.AuthCallout{
			Issuer: issuer, Account: account, AuthUsers: []string{service},
		},
		JetStreamMaxMemory: 64 << 20,
		// The default, three quarters of what is free at the start, would stop
		// every stream at once. The streams have bounds of their own within
		// Room; what they once reserved must not keep them from being opened.
		JetStreamMaxStore: b.disk.size,
		JetStreamLimits:   server.JSLimitOpts{DefaultMaxConsumers: -1},
	}
	if o.MQTTAddr == "" {
		return opts, nil
	}
	host, port, err := net.SplitHostPort(o.MQTTAddr)
	if err != nil {
		return nil, fmt.Errorf("MQTT address %q: %w (hint: host:port, as in 127.0.0.1:1883)", o.MQTTAddr, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("MQTT address %q: port: %w", o.MQTTAddr, err)
	}
	opts.MQTT = server.MQTTOpts{Host: host, Port: int(n), MaxAckPending: 16}
	// What is published at QoS 2 and never released would stay in a stream.
	// The option has no exported field.
	if err := opts.ProcessConfigString("mqtt { reject_qos2_publish: true }"); err != nil {
		return nil, fmt.Errorf("MQTT options: %w", err)
	}
	if n == 0 {
		opts.MQTT.Port = server.RANDOM_PORT
	}
	return opts, nil
}

// awaitReady returns as soon as the server serves, gives up, or ctx ends.
func (b *Broker) awaitReady(ctx context.Context, lines *logger) error {
	deadline := time.Now().Add(readyTimeout)
	for !b.srv.ReadyForConnections(readyStep) {
		select {
		case line := <-lines.fatal:
			return fmt.Errorf("%w: %s (hint: another process may hold the port)", ErrListen, line)
		case <-ctx.Done():
			return fmt.Errorf("start broker: %w", ctx.Err())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("broker not ready after %s (hint: a damaged or very large data directory; the log says more)", readyTimeout)
		}
	}
	return nil
}

// Room returns how many bytes the data directory may take.
func (b *Broker) Room() int64 { return b.disk.room }

// MQTTAddr returns the address gateways connect to, with the real port.
func (b *Broker) MQTTAddr() string { return b.mqtt }

// Connect returns a new in-process connection of the service itself.
func (b *Broker) Connect(name string) (*nats.Conn, error) {
	service, err := b.service.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("service key: %w", err)
	}
	nc, err := nats.Connect("", nats.InProcessServer(b.srv), nats.Nkey(service, b.service.Sign), nats.Name(name),
		nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.NoCallbacksAfterClientClose(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("broker connection", "name", name, "err", err)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect %s to the broker: %w", name, err)
	}
	return nc, nil
}

// Ready reports whether the server still serves.
func (b *Broker) Ready() bool { return b.srv.Running() && b.srv.JetStreamEnabled() }

// Online counts the gateways connected now.
func (b *Broker) Online() int {
	conns, err := b.srv.Connz(&server.ConnzOptions{State: server.ConnOpen, Limit: 1 << 20})
	if err != nil {
		return 0
	}
	ids := map[string]struct{}{}
	for _, c := range conns.Conns {
		if c.MQTTClient != "" {
			ids[c.MQTTClient] = struct{}{}
		}
	}
	return len(ids)
}

// Close stops the server, waits for it and releases the data directory.
func (b *Broker) Close() {
	if b.callout != nil {
		b.callout.Close()
	}
	if b.srv != nil {
		b.srv.Shutdown()
		b.srv.WaitForShutdown()
	}
	if b.lock != nil {
		_ = b.lock.Close() // releases the lock
		b.lock = nil
	}
}

// checkOwner refuses a directory of another user, even to root: a file made
// here by root would keep the service from starting.
func checkOwner(dir string) error {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if int(st.Uid) == os.Geteuid() {
		return nil
	}
	name := "#" + strconv.Itoa(int(st.Uid)) // as sudo(8) takes a number
	if u, err := user.LookupId(strconv.Itoa(int(st.Uid))); err == nil {
		name = u.Username
	}
	return fmt.Errorf("%s: %w (hint: run this as that user, with sudo -u '%s')", dir, ErrOwner, name)
}

// takeLock holds an exclusive lock on dir until the file is closed. That it is
// locked is said before that it is another's: a service that starts is soon to
// be asked through its socket, which root may do.
func takeLock(dir string) (_ *os.File, err error) {
	owner, flags := checkOwner(dir), os.O_RDWR
	if owner == nil {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), flags, 0o600)
	if err != nil {
		return nil, cmp.Or(owner, fmt.Errorf("lock data directory: %w", err))
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, fmt.Errorf("%s: %w", dir, ErrLocked)
	case err != nil:
		return nil, fmt.Errorf("lock data directory: %w", err)
	case owner != nil:
		return nil, owner
	}
	return f, nil
}
