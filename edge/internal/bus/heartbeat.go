package bus

import "gatehouse/drivers"

// judge asks the framer about the window, past the heartbeats that a serial
// server puts between frames. A reply that the framer accepts is never touched:
// a heartbeat is skipped where no reply can begin, or where a whole reply
// stands behind it. The beginning of one waits for the rest of it.
func (b *Bus) judge(w *window, f drivers.Framer) (need int, err error) {
	for {
		rx := b.rx[w.start:w.end]
		if len(rx) == 0 {
			return 1, nil
		}
		need, err = f(rx)
		beat := b.link.Heartbeat
		if beat == "" || err == nil && need <= 0 {
			return need, err
		}
		if len(rx) < len(beat) {
			if err != nil && beat[:len(rx)] == string(rx) {
				return len(beat) - len(rx), nil
			}
			return need, err
		}
		if string(rx[:len(beat)]) != beat || err == nil && !whole(f, rx[len(beat):]) {
			return need, err
		}
		w.start += len(beat)
	}
}

// whole reports whether a complete reply begins here.
func whole(f drivers.Framer, rx []byte) bool {
	if len(rx) == 0 {
		return false
	}
	need, err := f(rx)
	return err == nil && need <= 0
}
