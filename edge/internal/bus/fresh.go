package bus

import (
	"context"

	"gatehouse/drivers"
)

// ready makes the line ready for a request. Many servers close a connection they
// find idle, and some after each reply: that is seen before anything is sent, and
// the connection made anew, so that no poll is missed and no order lost for it.
func (b *Bus) ready(ctx context.Context, dev *device) error {
	err := b.prepare(dev)
	if err == nil && b.opts.Framing == drivers.TCP {
		var n int
		n, err = b.line.discard() // what arrived unasked; its transaction id is of the past
		b.foreign(n)
	}
	if err == nil || b.link.Serial || b.link.Listen || !b.redial.proven {
		return err
	}
	b.line.shut()
	b.connect(ctx)
	if !b.line.isOpen() {
		return err
	}
	return b.prepare(dev)
}
