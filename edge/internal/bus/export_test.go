package bus

import "net"

// ListenWith replaces how ports are opened.
func (a *Acceptor) ListenWith(listen func(address string) (net.Listener, error)) { a.listen = listen }
