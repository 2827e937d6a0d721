package point

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
)

// Index numbers points: each has a slot, from 0 on. A gateway has tens of
// thousands of points and little memory, so the ids stand in one text and are
// found by a table of numbers: some 20 bytes a point, half of them its letters,
// where a map and a string header each would take five times as much. It never
// changes and may be used from any goroutine.
type Index struct {
	text string
	ends []uint32 // ID(slot) is text[ends[slot]:ends[slot+1]]
	// places holds slot+1 at the place the id's hash names, or at the next free
	// one; 0 is free. Its length is a power of two, and a quarter or more is free.
	places []uint32
	seed   maphash.Seed
}

// NewIndex gives ids their slots, in their order. No id may come twice.
func NewIndex(ids []ID) (*Index, error) {
	size, length := 4, 0
	for size < len(ids)*3/2 {
		size *= 2
	}
	for _, id := range ids {
		length += len(id)
	}
	if uint64(length) > math.MaxUint32 {
		return nil, errors.New("point ids of more than 4 GiB")
	}
	text := make([]byte, 0, length)
	x := &Index{ends: make([]uint32, 1, len(ids)+1), places: make([]uint32, size), seed: maphash.MakeSeed()}
	for _, id := range ids {
		text = append(text, id...)
		x.ends = append(x.ends, uint32(len(text)))
	}
	x.text = string(text)
	for slot, id := range ids {
		place, found := x.find(id)
		if found {
			return nil, fmt.Errorf("point %s is listed twice", id)
		}
		x.places[place] = uint32(slot + 1)
	}
	return x, nil
}

// Len is how many points there are.
func (x *Index) Len() int { return len(x.ends) - 1 }

// ID returns the id of a slot.
func (x *Index) ID(slot int32) ID { return ID(x.text[x.ends[slot]:x.ends[slot+1]]) }

// Slot returns the slot of an id; ok is false for one that is not listed.
func (x *Index) Slot(id ID) (slot int32, ok bool) {
	place, found := x.find(id)
	if !found {
		return 0, false
	}
	return int32(x.places[place] - 1), true
}

// find returns the place of id, or the free one where it would stand.
func (x *Index) find(id ID) (place uint64, found bool) {
	mask := uint64(len(x.places) - 1)
	for place = maphash.String(x.seed, string(id)) & mask; ; place = (place + 1) & mask {
		n := x.places[place]
		if n == 0 {
			return place, false
		}
		if x.ID(int32(n-1)) == id {
			return place, true
		}
	}
}
