package ingest

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"gatehouse/protocol/wire"
)

// errTooBig occurs when a payload is more than a gateway may send.
var errTooBig = errors.New("payload too big")

const (
	// recordsField is the number of Batch.records in wire.proto.
	recordsField = 5
	// maxRecords a batch may have; what is decoded takes many times the bytes of
	// a small record. No gateway comes near it.
	maxRecords = 10_000
	// minRecord is what any valid record takes: two ids of 16 bytes with their
	// tags. It bounds how many records 8 MiB can claim to hold before memory is
	// set aside for them.
	minRecord = 2 * (16 + 2)
)

// decode returns the batch in a payload, at bounded cost.
func (in *Ingest) decode(p []byte) (wire.Batch, error) {
	if len(p) > wire.MaxPayload {
		return wire.Batch{}, fmt.Errorf("%w: %d bytes", errTooBig, len(p))
	}
	raw, err := in.dec.DecodeAll(p, nil)
	if err != nil {
		return wire.Batch{}, fmt.Errorf("decompress: %w", err)
	}
	if err := checkShape(raw); err != nil {
		return wire.Batch{}, err
	}
	return wire.DecodeBatch(raw)
}

// checkShape walks the outermost fields without allocating.
func checkShape(p []byte) error {
	records := 0
	for len(p) > 0 {
		num, typ, n := protowire.ConsumeTag(p)
		if n < 0 {
			return fmt.Errorf("%w: %w", wire.ErrMalformed, protowire.ParseError(n))
		}
		p = p[n:]
		size := protowire.ConsumeFieldValue(num, typ, p)
		if size < 0 {
			return fmt.Errorf("%w: %w", wire.ErrMalformed, protowire.ParseError(size))
		}
		if num == recordsField {
			if size < minRecord {
				return fmt.Errorf("%w: record of %d bytes", wire.ErrMalformed, size)
			}
			if records++; records > maxRecords {
				return fmt.Errorf("%w: more than %d records", errTooBig, maxRecords)
			}
		}
		p = p[size:]
	}
	return nil
}
