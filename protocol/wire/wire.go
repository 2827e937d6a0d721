// Package wire is the contract between gateway and cloud: what a record is,
// how a batch and an ack look on the wire, and under which topics they travel.
//
// It guarantees: what Encode takes, Decode gives back; Decode never panics and
// refuses a number that is on none of its lists, and a batch whose sequence has
// a hole that no gap record declares; names and numbers of version 1 never change (wire.proto beside
// this file is the schema). It does no I/O and no compression: a payload is
// one zstd frame of an encoded Batch, made and opened by whoever sends and
// receives it, within MaxPayload and MaxInflated.
package wire

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"gatehouse/protocol/wire/wirepb"
)

// Version is the wire version this code speaks and writes.
const Version = 1

// Limits of one payload.
const (
	MaxPayload  = 1 << 20 // bytes of one compressed payload
	MaxInflated = 8 << 20 // bytes it may inflate to
)

// Lane separates what must overtake from what can wait.
type Lane uint8

// The lanes, most urgent first. The numbers are those of wire.proto.
const (
	LaneAlarm     Lane = 1
	LaneEvent     Lane = 2
	LaneTelemetry Lane = 3
	LaneMedia     Lane = 4
)

// Lanes lists all lanes, most urgent first.
var Lanes = []Lane{LaneAlarm, LaneEvent, LaneTelemetry, LaneMedia}

var laneNames = [...]string{LaneAlarm: "alarm", LaneEvent: "event", LaneTelemetry: "telemetry", LaneMedia: "media"}

// String returns the lane's name as it stands in a topic.
func (l Lane) String() string {
	if l.Valid() {
		return laneNames[l]
	}
	return fmt.Sprintf("lane(%d)", uint8(l))
}

// Valid reports whether l is one of the lanes.
func (l Lane) Valid() bool { return l >= LaneAlarm && l <= LaneMedia }

// laneOf returns an invalid lane for a number that is no lane, however large.
func laneOf(l wirepb.Lane) Lane {
	if l < 0 || l > wirepb.Lane(LaneMedia) {
		return 0
	}
	return Lane(l)
}

// ParseLane is the inverse of Lane.String.
func ParseLane(s string) (Lane, error) {
	for _, l := range Lanes {
		if s == l.String() {
			return l, nil
		}
	}
	return 0, fmt.Errorf("unknown lane %q", s)
}

// Topic is where a gateway publishes its batches of one lane.
func Topic(gateway string, lane Lane) string { return "gw/" + gateway + "/v1/" + lane.String() }

// AckTopic is where a gateway hears the cloud's acks.
func AckTopic(gateway string) string { return "gw/" + gateway + "/v1/ack" }

// ValidGatewayID reports whether id can stand in a topic: 1 to 64 of [A-Za-z0-9_-].
func ValidGatewayID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, r := range id {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
		default:
			return false
		}
	}
	return true
}

// EventID names one record for ever, whatever becomes of its sequence number.
type EventID [16]byte

// NewEventID returns a random id.
func NewEventID() (id EventID) {
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return id
}

// String returns 32 hex digits.
func (id EventID) String() string { return hex.EncodeToString(id[:]) }

// ParseEventID is the inverse of EventID.String.
func ParseEventID(s string) (id EventID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return EventID{}, fmt.Errorf("id %q: want 32 hex digits", s)
	}
	return EventID(b), nil
}

// BootID names the boot within which Record.Mono counts.
type BootID [16]byte

// String returns 32 hex digits.
func (id BootID) String() string { return hex.EncodeToString(id[:]) }

// ClockQuality says who vouched for Record.Time.
type ClockQuality uint8

// The sources of time, by rank.
const (
	ClockUntrusted ClockQuality = iota
	ClockInstaller
	ClockCloud
	ClockNTP
)

var clockNames = [...]string{"untrusted", "installer", "cloud", "ntp"}

// String returns the published name.
func (q ClockQuality) String() string {
	if int(q) < len(clockNames) {
		return clockNames[q]
	}
	return fmt.Sprintf("clock(%d)", uint8(q))
}

// Record is one thing a gateway has to say. ID, Kind, Time, Clock, Boot, Mono
// and Body are fixed at creation; the store assigns Seq.
type Record struct {
	ID    EventID
	Lane  Lane
	Seq   uint64
	Kind  string
	Time  time.Time
	Clock ClockQuality
	Boot  BootID
	Mono  time.Duration
	Body  []byte
}

// Batch is what one payload carries: records of one lane in ascending order.
type Batch struct {
	Version int
	Gateway string
	Epoch   string
	Lane    Lane
	Records []Record
}

// Ack is the cloud's own word that a range is durable. UpTo below From means:
// nothing of that batch was taken, the cloud stands at UpTo.
type Ack struct {
	Gateway   string
	Epoch     string
	Lane      Lane
	From      uint64
	UpTo      uint64
	CloudTime time.Time
}

// Errors of decoding.
var (
	// ErrVersion occurs when the other side speaks a version this code does not.
	ErrVersion = errors.New("unsupported wire version")
	// ErrMalformed occurs when bytes are no message of the contract.
	ErrMalformed = errors.New("malformed message")
)

// Span returns the range of sequence numbers the batch settles: a gap record
// settles all it declares missing. It fails when the records leave a hole.
func (b Batch) Span() (from, upTo uint64, err error) {
	if len(b.Records) == 0 {
		return 0, 0, fmt.Errorf("%w: empty batch", ErrMalformed)
	}
	for i, r := range b.Records {
		first := r.Seq
		if r.Kind == KindGap {
			gap, err := DecodeGap(r.Body)
			if err != nil {
				return 0, 0, err
			}
			if gap.First > gap.Last || gap.Last != r.Seq {
				return 0, 0, fmt.Errorf("%w: gap %d..%d at sequence %d", ErrMalformed, gap.First, gap.Last, r.Seq)
			}
			first = gap.First
		}
		switch {
		case first == 0:
			return 0, 0, fmt.Errorf("%w: sequence 0", ErrMalformed)
		case i == 0:
			from = first
		case first != upTo+1:
			return 0, 0, fmt.Errorf("%w: sequence %d follows %d", ErrMalformed, first, upTo)
		}
		upTo = r.Seq
	}
	return from, upTo, nil
}

// Encode returns the protobuf form of b.
func (b Batch) Encode() ([]byte, error) { return b.Append(nil) }

// DecodeBatch checks and returns the batch in p: version, lane, ids and an
// unbroken sequence. Records share no memory with p.
func DecodeBatch(p []byte) (Batch, error) { return decodeBatch(p, Version) }

// DecodeStored is DecodeBatch for what was kept: it reads every version there
// ever was, from 1 to this code's, for as long as anybody may have kept it.
func DecodeStored(p []byte) (Batch, error) { return decodeBatch(p, 1) }

func decodeBatch(p []byte, oldest uint32) (Batch, error) {
	var m wirepb.Batch
	if err := proto.Unmarshal(p, &m); err != nil {
		return Batch{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if m.Version < oldest || m.Version > Version {
		return Batch{}, fmt.Errorf("%w %d", ErrVersion, m.Version)
	}
	b := Batch{Version: int(m.Version), Gateway: m.Gateway, Epoch: m.Epoch, Lane: laneOf(m.Lane)}
	if !b.Lane.Valid() || b.Epoch == "" || len(b.Epoch) > 64 {
		return Batch{}, fmt.Errorf("%w: lane %d, epoch %q", ErrMalformed, m.Lane, m.Epoch)
	}
	b.Records = make([]Record, len(m.Records))
	for i, p := range m.Records {
		if len(p.Id) != 16 || len(p.Boot) != 16 || p.Kind == "" || len(p.Kind) > 64 || p.Clock > uint32(ClockNTP) {
			return Batch{}, fmt.Errorf("%w: record %d", ErrMalformed, i)
		}
		b.Records[i] = Record{
			ID: EventID(p.Id), Lane: b.Lane, Seq: p.Seq, Kind: p.Kind, Time: time.Unix(0, p.Time),
			Clock: ClockQuality(p.Clock), Boot: BootID(p.Boot), Mono: time.Duration(p.Mono), Body: p.Body,
		}
	}
	if _, _, err := b.Span(); err != nil {
		return Batch{}, err
	}
	return b, nil
}

// Encode returns the protobuf form of a.
func (a Ack) Encode() ([]byte, error) {
	return proto.Marshal(&wirepb.Ack{
		Version: Version, Gateway: a.Gateway, Epoch: a.Epoch, Lane: wirepb.Lane(a.Lane),
		From: a.From, UpTo: a.UpTo, CloudTime: a.CloudTime.UnixNano(),
	})
}

// DecodeAck returns the ack in p.
func DecodeAck(p []byte) (Ack, error) {
	var m wirepb.Ack
	if err := proto.Unmarshal(p, &m); err != nil {
		return Ack{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if m.Version != Version {
		return Ack{}, fmt.Errorf("%w %d", ErrVersion, m.Version)
	}
	a := Ack{Gateway: m.Gateway, Epoch: m.Epoch, Lane: laneOf(m.Lane), From: m.From, UpTo: m.UpTo, CloudTime: time.Unix(0, m.CloudTime)}
	if !a.Lane.Valid() {
		return Ack{}, fmt.Errorf("%w: lane %d", ErrMalformed, m.Lane)
	}
	return a, nil
}
