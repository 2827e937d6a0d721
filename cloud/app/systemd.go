package app

import (
	"net"
	"os"
)

// notifySystemd tells the service manager, if there is one; see sd_notify(3).
func notifySystemd(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.Dial("unixgram", path)
	if err != nil {
		return // the manager is gone; the service is not worse for it
	}
	_, _ = c.Write([]byte(state))
	_ = c.Close()
}
