package drivertest

import (
	"bytes"
	"context"

	"gatehouse/drivers"
)

// Step is a request and the reply a device gives to it.
type Step struct {
	Request []byte
	Reply   []byte
}

// Script is a Link over a device that only knows its steps. It feeds a reply
// to the framer byte by byte, as a slow line would. A request it has no reply
// to, and a reply the framer does not take, end in ErrNoReply.
type Script struct {
	Steps     []Step
	Otherwise func(request []byte) []byte // for requests that no step has; may be nil
	Err       error                       // returned by every exchange, if set
	// Framing TCP makes the first two bytes of a request its number: they are
	// not compared, and come back in the reply.
	Framing drivers.Framing

	Sent [][]byte // every request, if Record
	// Record keeps requests in Sent.
	Record bool

	rx []byte
}

// Exchange implements drivers.Link.
func (s *Script) Exchange(ctx context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	if s.Record {
		s.Sent = append(s.Sent, bytes.Clone(tx))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.Err != nil {
		return nil, s.Err
	}
	reply := s.find(tx)
	s.rx = append(s.rx[:0], reply...)
	if s.Framing == drivers.TCP && len(s.rx) >= 2 {
		copy(s.rx, tx[:2])
	}
	start := 0
	for end := 0; end <= len(s.rx); end++ {
		for start < end {
			need, err := f(s.rx[start:end])
			if err != nil {
				start++
				continue
			}
			if need <= 0 {
				return s.rx[start : end+need], nil
			}
			break
		}
	}
	return nil, drivers.ErrNoReply
}

// find returns the scripted reply.
func (s *Script) find(tx []byte) []byte {
	skip := 0
	if s.Framing == drivers.TCP {
		skip = 2
	}
	for i := range s.Steps {
		if bytes.Equal(s.Steps[i].Request[skip:], tx[skip:]) {
			return s.Steps[i].Reply
		}
	}
	if s.Otherwise != nil {
		return s.Otherwise(tx)
	}
	return nil
}
