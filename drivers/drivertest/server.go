package drivertest

import (
	"io"
	"net"
	"os"
	"sync"
	"testing"
)

// Handler plays a device: it gets one request frame and writes what the device
// says to it, when and how it likes. An error ends the connection.
type Handler func(w io.Writer, request []byte) error

// Serve listens on loopback and hands each request of size bytes to handle.
// It returns its address; stop closes the listener and every connection.
func Serve(t testing.TB, size int, handle Handler) (address string, stop func()) {
	t.Helper()
	return ServeAt(t, "127.0.0.1:0", size, handle)
}

// ServeAt is Serve on a given address: a device that comes back.
func ServeAt(t testing.TB, listen string, size int, handle Handler) (address string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards conns
	conns := make(map[net.Conn]bool)
	closed := false
	stop = func() {
		listener.Close()
		mu.Lock()
		closed = true
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	}
	t.Cleanup(stop)
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if closed {
				c.Close()
			}
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				serve(c, size, handle)
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			})
		}
	})
	return listener.Addr().String(), stop
}

// ServePTY plays a device on the master end of a terminal until the test ends.
func ServePTY(t testing.TB, master *os.File, size int, handle Handler) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { serve(master, size, handle) })
	t.Cleanup(func() {
		master.Close()
		wg.Wait()
	})
}

func serve(c io.ReadWriteCloser, size int, handle Handler) {
	defer c.Close()
	request := make([]byte, size)
	for {
		if _, err := io.ReadFull(c, request); err != nil {
			return
		}
		if err := handle(c, request); err != nil {
			return
		}
	}
}
