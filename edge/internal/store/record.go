package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
	"unicode/utf8"

	"gatehouse/protocol/wire"
)

// A stored value ends with the CRC32C of its key and of all bytes before it,
// and begins with the version of its layout. Numbers are big-endian.
// DESIGN.md states the layout; it is final.
const (
	version    = 1
	headerSize = 61 // of a record, up to its kind
	crcSize    = 4
	keySize    = 8

	// maxBody is the largest record: it must fit one payload even when it does
	// not compress.
	maxBody = wire.MaxPayload - 64<<10
	maxKind = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(key, value []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value)
}

// seal appends the CRC of the value that begins at b[from].
func seal(b []byte, from int, key []byte) []byte {
	return binary.BigEndian.AppendUint32(b, sum(key, b[from:]))
}

// unseal checks the CRC and the version and returns what is between them.
func unseal(key, value []byte) ([]byte, error) {
	n := len(value) - crcSize
	if n < 1 || sum(key, value[:n]) != binary.BigEndian.Uint32(value[n:]) {
		return nil, fmt.Errorf("%w: key %x: CRC", ErrDamaged, key)
	}
	if value[0] != version {
		return nil, fmt.Errorf("%w: key %x: layout %d", ErrNewer, key, value[0])
	}
	return value[1:n], nil
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// check reports why r cannot be stored.
func check(r *wire.Record) error {
	switch {
	case !r.Lane.Valid():
		return fmt.Errorf("%w: record of %v", ErrInvalid, r.Lane)
	case r.Kind == "" || len(r.Kind) > maxKind || !utf8.ValidString(r.Kind):
		return fmt.Errorf("%w: record kind %q", ErrInvalid, r.Kind)
	case len(r.Body) > maxBody:
		return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrInvalid, r.Kind, len(r.Body), maxBody)
	}
	return nil
}

// appendRecord appends the value of r, all but its CRC.
func appendRecord(b []byte, epoch uint64, r *wire.Record) []byte {
	b = append(b, version, 0, byte(r.Lane), byte(r.Clock))
	b = binary.BigEndian.AppendUint64(b, epoch)
	b = append(b, r.Boot[:]...)
	b = append(b, r.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Mono))
	b = append(b, byte(len(r.Kind)))
	b = append(b, r.Kind...)
	return append(b, r.Body...)
}

// decodeRecord checks value and returns the record. Kind and Body point into
// value: copy them before the transaction ends.
func decodeRecord(key, value []byte) (r wire.Record, kind []byte, err error) {
	if len(key) != keySize {
		return r, nil, fmt.Errorf("%w: key of %d bytes", ErrDamaged, len(key))
	}
	if _, err := unseal(key, value); err != nil {
		return r, nil, err
	}
	v := value[:len(value)-crcSize]
	if len(v) < headerSize || len(v) < headerSize+int(v[headerSize-1]) || v[1] != 0 {
		return r, nil, fmt.Errorf("%w: key %x: header", ErrDamaged, key)
	}
	r = wire.Record{
		Lane: wire.Lane(v[2]), Clock: wire.ClockQuality(v[3]), Seq: binary.BigEndian.Uint64(key),
		Boot: wire.BootID(v[12:28]), ID: wire.EventID(v[28:44]),
		Time: time.Unix(0, int64(binary.BigEndian.Uint64(v[44:]))),
		Mono: time.Duration(binary.BigEndian.Uint64(v[52:])),
	}
	end := headerSize + int(v[headerSize-1])
	r.Body = v[end:]
	return r, v[headerSize:end], nil
}

// decode is decodeRecord for a record that must be of this lane and this file:
// a stale block of an earlier file passes its CRC.
func (l *lane) decode(key, value []byte) (r wire.Record, kind []byte, err error) {
	r, kind, err = decodeRecord(key, value)
	if err == nil && (r.Lane != l.id || binary.BigEndian.Uint64(value[4:]) != l.file.epoch) {
		err = fmt.Errorf("%w: key %x: of lane %v, epoch %x", ErrDamaged, key, r.Lane, value[4:12])
	}
	return r, kind, err
}

// position is what a lane remembers of the cloud: everything up to acked is
// durable there, and how long that has been so.
type position struct {
	acked uint64
	marks []mark
}

// mark says that everything up to upTo was acked at least age ago. Age counts
// running time only, so a wrong clock cannot shorten the replay window.
type mark struct {
	upTo uint64
	age  time.Duration
}

func (p position) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{version}, p.acked)
	for _, m := range p.marks {
		b = binary.BigEndian.AppendUint64(b, m.upTo)
		b = binary.BigEndian.AppendUint32(b, uint32(m.age/time.Second))
	}
	return b
}

func decodePosition(key, value []byte) (p position, err error) {
	b, err := unseal(key, value)
	if err != nil {
		return p, err
	}
	if len(b) < 8 || (len(b)-8)%12 != 0 {
		return p, fmt.Errorf("%w: position of %d bytes", ErrDamaged, len(b))
	}
	p.acked = binary.BigEndian.Uint64(b)
	for b = b[8:]; len(b) > 0; b = b[12:] {
		p.marks = append(p.marks, mark{binary.BigEndian.Uint64(b), time.Duration(binary.BigEndian.Uint32(b[8:])) * time.Second})
	}
	return p, nil
}

// resum overwrites the last bytes of value with its CRC under key.
func resum(value, key []byte) {
	n := len(value) - crcSize
	binary.BigEndian.PutUint32(value[n:], sum(key, value[:n]))
}
