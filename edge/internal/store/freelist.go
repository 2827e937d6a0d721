package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	bolt "go.etcd.io/bbolt"
)

// What bbolt writes at the start of a page and of a meta page, in the byte
// order of the machine (bbolt v1.5, internal/common: page.go, meta.go).
const (
	pageHeader   = 16 // id u64, flags u16, count u16, overflow u32
	freelistFlag = 0x10
	manyFree     = math.MaxUint16 // the count stands before the ids, as u64
	metaFreelist = pageHeader + 32
	metaTxid     = pageHeader + 48
	metaSize     = pageHeader + 64
)

// checkFreelist looks at the list of free pages, which has no checksum: bbolt
// would write wherever it says. A file without a list gets one at the next
// open, by a walk over all pages that nobody can guard: it is walked here first.
func (f *file) checkFreelist(tx *bolt.Tx) error {
	page := int64(f.db.Info().PageSize)
	at, err := f.freelistPage(tx.ID(), page)
	if err != nil {
		return err
	}
	if at == math.MaxUint64 {
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
	}
	pages := uint64(tx.Size() / page)
	if at < 2 || at >= pages {
		return fmt.Errorf("%w: free list on page %d of %d", ErrDamaged, at, pages)
	}
	r := bufio.NewReader(io.NewSectionReader(f.disk, int64(at)*page, tx.Size()-int64(at)*page))
	var head [pageHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read free list: %w", err)
	}
	if id, flags := binary.NativeEndian.Uint64(head[:]), binary.NativeEndian.Uint16(head[8:]); id != at || flags != freelistFlag {
		return fmt.Errorf("%w: page %d is no free list", ErrDamaged, at)
	}
	n := uint64(binary.NativeEndian.Uint16(head[10:]))
	if n == manyFree {
		if n, err = readUint64(r); err != nil {
			return err
		}
	}
	for last := uint64(1); n > 0; n-- {
		id, err := readUint64(r)
		if err != nil {
			return err
		}
		if id <= last || id >= pages {
			return fmt.Errorf("%w: free list: page %d after %d of %d", ErrDamaged, id, last, pages)
		}
		last = id
	}
	return nil
}

// freelistPage returns the page of the free list, as the meta page of
// transaction txid has it.
func (f *file) freelistPage(txid int, page int64) (uint64, error) {
	var meta [metaSize]byte
	for i := range int64(2) {
		if _, err := f.disk.ReadAt(meta[:], i*page); err != nil {
			return 0, fmt.Errorf("read meta page %d: %w", i, err)
		}
		if binary.NativeEndian.Uint64(meta[metaTxid:]) == uint64(txid) {
			return binary.NativeEndian.Uint64(meta[metaFreelist:]), nil
		}
	}
	return 0, fmt.Errorf("%w: no meta page of transaction %d", ErrDamaged, txid)
}

func readUint64(r *bufio.Reader) (uint64, error) {
	b, err := r.Peek(8)
	if errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("%w: free list is cut off", ErrDamaged)
	}
	if err != nil {
		return 0, fmt.Errorf("read free list: %w", err)
	}
	id := binary.NativeEndian.Uint64(b)
	_, err = r.Discard(len(b))
	return id, err
}
