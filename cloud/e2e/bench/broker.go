package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// broker is Debian's mosquitto on a free port of loopback, keeping nothing.
type broker struct {
	bin  string
	dir  string
	addr string // host:port, the same after a restart
	proc *process
}

func startBroker(ctx context.Context, dir string) (*broker, error) {
	bin, err := exec.LookPath("mosquitto")
	if err != nil {
		if bin, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			return nil, errors.New("mosquitto is missing: apt-get install mosquitto")
		}
	}
	// mosquitto cannot choose a port itself; one that is free now may be taken
	// a moment later, so there is a second and a third try.
	for try := 0; ; try++ {
		addr, err := freeAddress()
		if err != nil {
			return nil, err
		}
		b := &broker{bin: bin, dir: dir, addr: addr}
		if err = b.start(ctx); err == nil || try == 2 || ctx.Err() != nil {
			return b, err
		}
	}
}

// freeAddress is a port of loopback that nobody has at this moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start runs mosquitto on the broker's address, at first or again. Nagle's
// algorithm is off: what is measured is the gateway, not a delayed segment.
func (b *broker) start(ctx context.Context) error {
	_, port, err := net.SplitHostPort(b.addr)
	if err != nil {
		return err
	}
	conf := filepath.Join(b.dir, "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nlog_dest stderr\nlog_type error\n", port)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	if b.proc, err = start(b.dir, "mosquitto", b.bin, "-c", conf); err != nil {
		return err
	}
	err = until(ctx, 5*time.Second, "mosquitto", func() bool {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}, b.proc)
	if err != nil {
		b.proc.stop()
	}
	return err
}

func (b *broker) stop() { b.proc.stop() }

// dial connects a client that keeps the order of messages.
func dial(addr, id string) (mqtt.Client, error) {
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetCleanSession(true).
		SetOrderMatters(true).SetAutoReconnect(false).SetConnectTimeout(5 * time.Second)
	c := mqtt.NewClient(o)
	return c, settle(c.Connect())
}

// settle waits for a token, but not for ever.
func settle(t mqtt.Token) error {
	if !t.WaitTimeout(10 * time.Second) {
		return errors.New("the broker does not answer")
	}
	return t.Error()
}
