package wire

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire/wirepb"
)

// The published record kinds. A kind that is not here travels opaque.
const (
	KindAlarmRaised       = "alarm.raised"
	KindAlarmAcknowledged = "alarm.acknowledged"
	KindAlarmCleared      = "alarm.cleared"
	KindTelemetry         = "telemetry.readings"
	KindGatewayStarted    = "gateway.started"
	KindGatewayFault      = "gateway.fault"
	KindGatewayCommand    = "gateway.command" // a person's order to a device, and what became of it
	KindGap               = "gap"
)

// Alarm is the body of the alarm kinds: one step in the life of one alarm.
type Alarm struct {
	Alarm      EventID
	Rule       string
	Point      point.ID
	Place      string
	Zone       string
	Role       point.Role
	Value      point.Value
	Unit       point.Unit
	Priority   int
	Title      string
	Drill      bool
	Occurrence int
	Actor      string
	Raised     time.Time
	Remark     string
}

// Encode returns the protobuf form of a.
func (a Alarm) Encode() ([]byte, error) {
	return proto.Marshal(&wirepb.Alarm{
		Alarm: a.Alarm[:], Rule: a.Rule, Point: string(a.Point), Place: a.Place, Zone: a.Zone, Role: string(a.Role),
		Value: &wirepb.Value{Kind: wirepb.Value_Kind(a.Value.Kind), Num: a.Value.Num, Text: a.Value.Text},
		Unit:  string(a.Unit), Priority: uint32(a.Priority), Title: a.Title, Drill: a.Drill,
		Occurrence: uint32(a.Occurrence), Actor: a.Actor, Raised: a.Raised.UnixNano(), Remark: a.Remark,
	})
}

// DecodeAlarm returns the alarm in p.
func DecodeAlarm(p []byte) (Alarm, error) {
	var m wirepb.Alarm
	if err := proto.Unmarshal(p, &m); err != nil {
		return Alarm{}, fmt.Errorf("%w: alarm: %v", ErrMalformed, err)
	}
	if len(m.Alarm) != 16 {
		return Alarm{}, fmt.Errorf("%w: alarm id of %d bytes", ErrMalformed, len(m.Alarm))
	}
	if m.Priority < 1 || m.Priority > 4 {
		return Alarm{}, fmt.Errorf("%w: alarm of priority %d", ErrMalformed, m.Priority)
	}
	kind, err := kindOf(m.GetValue().GetKind())
	if err != nil {
		return Alarm{}, fmt.Errorf("alarm: %w", err)
	}
	v := point.Value{Kind: kind, Num: m.GetValue().GetNum(), Text: m.GetValue().GetText()}
	return Alarm{
		Alarm: EventID(m.Alarm), Rule: m.Rule, Point: point.ID(m.Point), Place: m.Place, Zone: m.Zone,
		Role: point.Role(m.Role), Value: v, Unit: point.Unit(m.Unit), Priority: int(m.Priority), Title: m.Title,
		Drill: m.Drill, Occurrence: int(m.Occurrence), Actor: m.Actor, Raised: time.Unix(0, m.Raised), Remark: m.Remark,
	}, nil
}

// kindOf refuses a number that is no kind, however large.
func kindOf(k wirepb.Value_Kind) (point.Kind, error) {
	if k < 0 || k > wirepb.Value_Kind(point.Text) {
		return point.None, fmt.Errorf("%w: value of kind %d", ErrMalformed, k)
	}
	return point.Kind(k), nil
}

// Gap is the body of KindGap.
type Gap struct {
	First, Last uint64
	Reason      string
}

// Encode returns the protobuf form of g.
func (g Gap) Encode() ([]byte, error) {
	return proto.Marshal(&wirepb.Gap{First: g.First, Last: g.Last, Reason: g.Reason})
}

// DecodeGap returns the gap in p.
func DecodeGap(p []byte) (Gap, error) {
	var m wirepb.Gap
	if err := proto.Unmarshal(p, &m); err != nil {
		return Gap{}, fmt.Errorf("%w: gap: %v", ErrMalformed, err)
	}
	return Gap{First: m.First, Last: m.Last, Reason: m.Reason}, nil
}

// Note is the body of the gateway kinds.
type Note struct {
	Text  string
	Attrs map[string]string
}

// Encode returns the protobuf form of n.
func (n Note) Encode() ([]byte, error) {
	return proto.Marshal(&wirepb.Note{Text: n.Text, Attrs: n.Attrs})
}

// DecodeNote returns the note in p.
func DecodeNote(p []byte) (Note, error) {
	var m wirepb.Note
	if err := proto.Unmarshal(p, &m); err != nil {
		return Note{}, fmt.Errorf("%w: note: %v", ErrMalformed, err)
	}
	return Note{Text: m.Text, Attrs: m.Attrs}, nil
}

// Telemetry is the body of KindTelemetry: what one device measured in a few
// polls. Row times have millisecond resolution.
type Telemetry struct {
	Device  string
	Rows    []time.Time
	Columns []Column
}

// Column holds one point's values. Rows names the row of each value; nil
// means every row has one. Qualities is nil when all values are good.
type Column struct {
	Point     string
	Unit      point.Unit
	Role      point.Role
	Kind      point.Kind
	Rows      []uint32
	Nums      []float64 // Number, Bool and the code of a State
	Texts     []string  // State and Text
	Qualities []point.Quality
}

// maxScale is the most decimals a value may have to travel as an integer.
const maxScale = 6

var pow10 = [maxScale + 1]float64{1, 10, 100, 1e3, 1e4, 1e5, 1e6}

// decimals returns the smallest scale at which every value is exactly
// integer/10^scale, and whether there is one.
func decimals(vs []float64) (scale int, ok bool) {
	for _, v := range vs {
		for ; ; scale++ {
			if scale > maxScale {
				return 0, false
			}
			n := math.Round(v * pow10[scale])
			if math.Abs(n) < 1<<53 && n/pow10[scale] == v {
				break
			}
		}
	}
	return scale, true
}

// Encode returns the protobuf form of t: see Append.
func (t Telemetry) Encode() ([]byte, error) { return t.Append(nil) }

// DecodeTelemetry checks and returns the readings in p: every column has one
// value per row it names.
func DecodeTelemetry(p []byte) (Telemetry, error) {
	var m wirepb.Telemetry
	if err := proto.Unmarshal(p, &m); err != nil {
		return Telemetry{}, fmt.Errorf("%w: telemetry: %v", ErrMalformed, err)
	}
	t := Telemetry{Device: m.Device, Rows: make([]time.Time, 1, len(m.Step)+1)}
	at := m.Start
	t.Rows[0] = time.UnixMilli(at)
	for _, step := range m.Step {
		if at > math.MaxInt64-int64(step) {
			return Telemetry{}, fmt.Errorf("%w: telemetry: rows beyond the end of time", ErrMalformed)
		}
		at += int64(step)
		t.Rows = append(t.Rows, time.UnixMilli(at))
	}
	for _, c := range m.Columns {
		col, err := decodeColumn(c, len(t.Rows))
		if err != nil {
			return Telemetry{}, err
		}
		t.Columns = append(t.Columns, col)
	}
	return t, nil
}

func decodeColumn(c *wirepb.Column, rows int) (Column, error) {
	kind, err := kindOf(c.Kind)
	if err != nil {
		return Column{}, fmt.Errorf("column %q: %w", c.Point, err)
	}
	col := Column{
		Point: c.Point, Unit: point.Unit(c.Unit), Role: point.Role(c.Role), Kind: kind, Rows: c.Rows, Nums: c.Nums, Texts: c.Texts,
	}
	if len(c.Ints) > 0 {
		if c.Scale > maxScale || len(c.Nums) > 0 {
			return Column{}, fmt.Errorf("%w: column %q: scale %d", ErrMalformed, c.Point, c.Scale)
		}
		col.Nums = make([]float64, len(c.Ints))
		n := int64(0)
		for i, d := range c.Ints {
			n += d
			col.Nums[i] = float64(n) / pow10[c.Scale]
		}
	}
	n := max(len(col.Nums), len(col.Texts))
	want := rows
	if len(c.Rows) > 0 {
		want = len(c.Rows)
		for i, r := range c.Rows {
			if int(r) >= rows || i > 0 && r <= c.Rows[i-1] {
				return Column{}, fmt.Errorf("%w: column %q: row %d of %d", ErrMalformed, c.Point, r, rows)
			}
		}
	}
	if n != want || len(col.Nums) > 0 && len(col.Nums) != n || len(col.Texts) > 0 && len(col.Texts) != n {
		return Column{}, fmt.Errorf("%w: column %q: %d values in %d rows", ErrMalformed, c.Point, n, want)
	}
	if len(c.Qualities) > 0 {
		if len(c.Qualities) != n {
			return Column{}, fmt.Errorf("%w: column %q: %d qualities for %d values", ErrMalformed, c.Point, len(c.Qualities), n)
		}
		for _, q := range c.Qualities {
			if q > uint32(point.Implausible) {
				return Column{}, fmt.Errorf("%w: column %q: quality %d", ErrMalformed, c.Point, q)
			}
			col.Qualities = append(col.Qualities, point.Quality(q))
		}
	}
	return col, nil
}
