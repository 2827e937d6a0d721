// Package systemd speaks the sd_notify protocol: ready, stopping, watchdog.
//
// It guarantees: without NOTIFY_SOCKET in the environment every call does
// nothing; a message is one datagram and never blocks the caller for long.
// See sd_notify(3) and sd_watchdog_enabled(3).
package systemd

import (
	"net"
	"os"
	"strconv"
	"time"
)

// Notifier sends to the service manager.
type Notifier struct {
	socket   string
	watchdog time.Duration
}

// FromEnv reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
func FromEnv() *Notifier {
	n := &Notifier{socket: os.Getenv("NOTIFY_SOCKET")}
	if pid := os.Getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
			n.watchdog = time.Duration(usec) * time.Microsecond
		}
	}
	return n
}

// Watchdog returns how often the service manager wants to hear of us; zero
// means never.
func (n *Notifier) Watchdog() time.Duration { return n.watchdog }

// Ready says that start-up is complete.
func (n *Notifier) Ready() error { return n.send("READY=1") }

// Stopping says that the daemon is going down.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Feed says that the daemon is alive.
func (n *Notifier) Feed() error { return n.send("WATCHDOG=1") }

func (n *Notifier) send(state string) error {
	if n.socket == "" {
		return nil
	}
	name := n.socket
	if name[0] == '@' { // abstract namespace
		name = "\x00" + name[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}
