package dlt645

// Request is one question to a meter, built once, and what answers it.
type Request struct {
	frame []byte // wake-up bytes and the frame
}

// NewRead asks for the data of one id.
func NewRead(a Address, id uint32) *Request { return newRequest(a, Read, appendID(nil, id)) }

// NewReadNext asks for what did not fit; SetNumber says which frame of it. The
// number stands behind the data id, and behind the data of the reply
// (DL/T 645-2007, read following data).
func NewReadNext(a Address, id uint32) *Request {
	return newRequest(a, ReadNext, append(appendID(nil, id), 1))
}

// NewReadAddress asks the only meter on the line who it is.
func NewReadAddress() *Request { return newRequest(Any, ReadAddress, nil) }

func newRequest(a Address, control byte, data []byte) *Request {
	r := &Request{frame: make([]byte, Wakeups, Wakeups+Wrapping+len(data))}
	for i := range r.frame {
		r.frame[i] = wakeup
	}
	r.frame = Frame{Address: a, Control: control, Data: data}.Append(r.frame)
	return r
}

// Bytes returns what is sent. It changes with SetAddress and SetNumber.
func (r *Request) Bytes() []byte { return r.frame }

// SetAddress directs the question to another meter.
func (r *Request) SetAddress(a Address) {
	copy(r.body()[1:7], a[:])
	r.seal()
}

// SetNumber says which following frame is asked for, from 1. Only a question of
// NewReadNext has a number; in others nothing changes.
func (r *Request) SetNumber(n byte) {
	if b := r.body(); b[8] == ReadNext {
		b[len(b)-tail-1] = n + offset
		r.seal()
	}
}

func (r *Request) body() []byte { return r.frame[Wakeups:] }

func (r *Request) seal() {
	b := r.body()
	b[len(b)-tail] = sum(b[:len(b)-tail])
}

// Judge looks at the bytes received so far, which begin where a reply may
// begin. need > 0: so many bytes are missing at the least; need == 0: rx is the
// whole reply; need < 0: the last -need bytes of rx do not belong to it.
func (r *Request) Judge(rx []byte) (need int, err error) {
	asked, wake := r.body(), wakeups(rx)
	b := rx[wake:]
	for i, c := range b[:min(len(b), 8)] {
		switch {
		case i == 0, i == 7:
			if c != start {
				return 0, ErrForeign
			}
		case asked[8] == ReadAddress:
			if c>>4 > 9 || c&0x0F > 9 {
				return 0, ErrForeign
			}
		case c != asked[i]:
			return 0, ErrForeign
		}
	}
	if len(b) > 8 && !r.answers(b[8]) {
		return 0, ErrForeign
	}
	if len(b) < head {
		return minReply - len(b), nil
	}
	size := Wrapping + int(b[9])
	if !r.sized(b[8], int(b[9])) || !r.echoed(b[:min(len(b), size)]) {
		return 0, ErrForeign
	}
	if len(b) < size {
		return size - len(b), nil
	}
	if !intact(b[:size]) {
		return 0, ErrDamaged
	}
	return size - len(b), nil
}

// answers reports whether a control code is that of a reply to this request.
func (r *Request) answers(control byte) bool {
	own := r.body()[8] | ReplyBit
	switch control {
	case own, own | ErrorBit:
		return true
	case own | MoreBit:
		return own != ReadAddress|ReplyBit
	}
	return false
}

// sized reports whether a reply of that control code can have so much data.
func (r *Request) sized(control byte, n int) bool {
	switch {
	case control&ErrorBit != 0:
		return n == 1
	case control == ReadAddress|ReplyBit:
		return n == len(Address{})
	case control&^MoreBit == ReadNext|ReplyBit:
		return n > IDSize+1 && n <= MaxData // at least one byte beside id and number
	}
	return n > IDSize && n <= MaxData
}

// echoed reports whether what has come of a reply's data repeats what must be
// repeated: the data id and the number asked for, or the sender's own address.
func (r *Request) echoed(b []byte) bool {
	control, n := b[8], int(b[9])
	if control&ErrorBit != 0 {
		return true
	}
	got := b[head:]
	if control == ReadAddress|ReplyBit {
		for i := range min(len(got), n) {
			if got[i]-offset != b[1+i] {
				return false
			}
		}
		return true
	}
	want := r.body()[head:]
	for i := range min(len(got), IDSize) {
		if got[i] != want[i] {
			return false
		}
	}
	if control&^MoreBit == ReadNext|ReplyBit && len(got) >= n {
		return got[n-1] == want[IDSize]
	}
	return true
}
