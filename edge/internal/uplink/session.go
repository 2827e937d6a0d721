package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"gatehouse/protocol/wire"
)

const (
	connectTimeout = 10 * time.Second
	writeTimeout   = 10 * time.Second
	byeMillis      = 250 // for the last packets when the daemon stops
)

// errRejected occurs when the broker does not take our name or secret.
var errRejected = errors.New("the broker refuses this gateway's id or secret (check cloud.secret_file, or add the gateway to the cloud again)")

// Run keeps a session with the broker until ctx ends. It never fails: a broker
// that cannot be reached is logged once, counted and tried again.
func (u *Uplink) Run(ctx context.Context) error {
	defer u.metrics.unregister()
	lost, wait := time.Now(), u.opt.MinBackoff
	for ctx.Err() == nil {
		up, err := u.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if up > wait { // it did work
			lost = time.Now()
		}
		u.down(err)
		wait = u.backoff(time.Since(lost))
		pause(ctx, jitter(wait))
	}
	u.setState(false, errors.New("stopped"))
	return nil
}

// backoff follows the outage: a short one costs little more than itself, and in
// a long one nobody hammers a cloud that is trying to get up.
func (u *Uplink) backoff(outage time.Duration) time.Duration {
	return min(max(outage/8, u.opt.MinBackoff), u.opt.MaxBackoff)
}

func (u *Uplink) down(err error) {
	level := slog.LevelDebug // a repetition
	if u.setState(false, err) {
		level = slog.LevelWarn
	}
	u.opt.Log.Log(context.Background(), level, "the cloud is not reachable: records wait on this gateway", "broker", u.broker.Host, "err", err)
}

// jitter spreads the return of many gateways: half of d to all of it.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// session connects, sends until the connection ends, and returns how long it
// was up.
func (u *Uplink) session(ctx context.Context) (up time.Duration, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	// A new client each time: paho's must not be used again after Disconnect.
	d := &dialer{u: u, ctx: ctx}
	client := mqtt.NewClient(u.clientOptions(d, end))
	if err := u.connect(client); err != nil {
		client.Disconnect(0)
		return 0, err
	}
	d.release()
	defer client.Disconnect(byeMillis)
	start := time.Now()
	if u.setState(true, nil) {
		u.opt.Log.Info("connected to the cloud", "broker", u.broker.Host)
	}
	u.metrics.up.Set(1)
	defer u.metrics.up.Set(0)
	var senders sync.WaitGroup
	for _, s := range u.senders {
		senders.Go(func() {
			if err := s.run(ctx, client); err != nil {
				end(err)
			}
		})
	}
	senders.Wait()
	return time.Since(start), context.Cause(ctx)
}

func (u *Uplink) clientOptions(d *dialer, end context.CancelCauseFunc) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.Servers = []*url.URL{u.broker}
	return o.SetClientID(u.opt.Gateway).SetUsername(u.opt.Gateway).SetPassword(u.opt.Secret).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetOrderMatters(true).
		SetKeepAlive(u.opt.KeepAlive).SetPingTimeout(min(u.opt.KeepAlive, 10*time.Second)).
		SetConnectTimeout(connectTimeout).SetWriteTimeout(writeTimeout).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { end(fmt.Errorf("connection lost: %w", err)) }).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return d.dial() })
}

// dialer opens the connection of one session. Until release it is closed when
// ctx ends, so that a stop need not wait for a broker that does not answer.
type dialer struct {
	u       *Uplink
	ctx     context.Context
	release func() bool
}

func (d *dialer) dial() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, connectTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.u.broker.Host)
	if err != nil {
		return nil, err
	}
	if d.u.tls != nil {
		secure := tls.Client(conn, d.u.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close() // the handshake's error says more
			return nil, err
		}
		conn = secure
	}
	d.release = context.AfterFunc(d.ctx, func() { _ = conn.Close() })
	return conn, nil
}

// connect waits for the broker's consent and for the subscription to acks.
func (u *Uplink) connect(client mqtt.Client) error {
	token := client.Connect()
	token.Wait() // bounded by connectTimeout
	err := token.Error()
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised),
		errors.Is(err, packets.ErrorRefusedIDRejected):
		return errRejected
	case err != nil:
		return fmt.Errorf("connect: %w", err)
	}
	topic := wire.AckTopic(u.opt.Gateway)
	sub, ok := client.Subscribe(topic, 0, func(_ mqtt.Client, m mqtt.Message) { u.onAck(m.Payload()) }).(*mqtt.SubscribeToken)
	if !ok || !sub.WaitTimeout(connectTimeout) {
		return fmt.Errorf("subscribe to %s: no answer", topic)
	}
	if err := sub.Error(); err != nil {
		return fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	if code, ok := sub.Result()[topic]; !ok || code > 2 { // MQTT 3.1.1, 3.9.3: 0x80 is failure
		return fmt.Errorf("subscribe to %s: refused by the broker (its access rules must allow it)", topic)
	}
	return nil
}

// onAck hands an ack to its lane. It never blocks: paho reads nothing else meanwhile.
func (u *Uplink) onAck(p []byte) {
	ack, err := wire.DecodeAck(p)
	if err == nil {
		err = u.sender(ack.Lane).acked(ack)
	}
	switch {
	case errors.Is(err, errStale), errors.Is(err, errRolledBack): // the sender tells of the latter
	case err != nil:
		u.metrics.refused.Inc()
		if held, ok := u.refusal.pass(time.Now()); ok {
			u.opt.Log.Warn("ack refused", "lane", ack.Lane.String(), "from", ack.From, "up_to", ack.UpTo, "err", err, "alike_before", held)
		}
	default:
		u.opt.OnCloudTime(ack.CloudTime)
	}
}

// sender returns the sender of a valid lane.
func (u *Uplink) sender(l wire.Lane) *sender { return u.senders[l-wire.LaneAlarm] }

// gate lets one of a storm of log lines through per minute.
type gate struct {
	mu   sync.Mutex // guards all below
	next time.Time
	held int
}

func (g *gate) pass(now time.Time) (held int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.next) {
		g.held++
		return 0, false
	}
	held, g.held = g.held, 0
	g.next = now.Add(time.Minute)
	return held, true
}
