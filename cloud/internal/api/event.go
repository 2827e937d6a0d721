package api

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"gatehouse/cloud/internal/eventlog"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// cloudSource is the source of events that are the cloud's own.
const cloudSource = "gatehouse-cloud"

// maxBody is the largest body that is opened; a bigger one travels opaque, so
// that a hostile one cannot unfold into much more memory than it takes.
const maxBody = 256 << 10

// maxCells bounds rows times columns of a telemetry body of so many bytes. In
// JSON every column has a place for every row, so that a few bytes for each row
// and each column could ask for gigabytes. Real telemetry has a value in most
// places, of a byte or more.
func maxCells(bytes int) int { return 16*bytes + 1024 }

var beijing = time.FixedZone("", 8*3600)

// event is one CloudEvent 1.0 in JSON. Attributes beyond the specification's
// own are extensions: receivedtime, seq, clockq, division, lane, epoch.
type event struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Time            string `json:"time"`
	ReceivedTime    string `json:"receivedtime"`
	Seq             uint64 `json:"seq"`
	ClockQuality    string `json:"clockq"`
	Division        string `json:"division,omitempty"`
	Lane            string `json:"lane"`
	Epoch           string `json:"epoch,omitempty"`
	DataContentType string `json:"datacontenttype,omitempty"`
	Data            any    `json:"data,omitempty"`
	DataBase64      []byte `json:"data_base64,omitempty"`
}

// newEvent renders an entry. A body that is not of its kind, or of a kind this
// release does not know, travels opaque.
func newEvent(e eventlog.Entry) event {
	r := e.Record
	ev := event{
		SpecVersion: "1.0", ID: r.ID.String(), Source: e.Gateway, Type: r.Kind, Time: stamp(r.Time), ReceivedTime: stamp(e.Received),
		Seq: r.Seq, ClockQuality: r.Clock.String(), Division: e.Division, Lane: r.Lane.String(), Epoch: e.Epoch,
		DataContentType: "application/json",
	}
	if e.Gateway == "" {
		ev.Source = cloudSource
	}
	data, err := newData(e, r)
	if err != nil {
		ev.DataContentType, ev.DataBase64 = "application/octet-stream", r.Body
		return ev
	}
	ev.Data = data
	return ev
}

// errOpaque occurs when a body is not to be opened.
var errOpaque = errors.New("opaque body")

func newData(e eventlog.Entry, r wire.Record) (any, error) {
	if len(r.Body) > maxBody {
		return nil, errOpaque
	}
	switch r.Kind {
	case wire.KindAlarmRaised, wire.KindAlarmAcknowledged, wire.KindAlarmCleared:
		a, err := wire.DecodeAlarm(r.Body)
		return newAlarm(a), err
	case wire.KindTelemetry:
		t, err := wire.DecodeTelemetry(r.Body)
		if err == nil && len(t.Rows)*max(len(t.Columns), 1) > maxCells(len(r.Body)) {
			return nil, errOpaque
		}
		return newTelemetry(t), err
	case wire.KindGap:
		g, err := wire.DecodeGap(r.Body)
		return gapData{Lane: r.Lane.String(), First: g.First, Last: g.Last, Reason: g.Reason}, err
	case wire.KindGatewayStarted, wire.KindGatewayFault, wire.KindGatewayCommand:
		n, err := wire.DecodeNote(r.Body)
		return noteData{Text: n.Text, Attrs: n.Attrs}, err
	}
	return nil, errOpaque
}

type alarmData struct {
	Place      string `json:"place"`
	Device     string `json:"device"`
	Point      string `json:"point"`
	Role       string `json:"role"`
	Value      any    `json:"value"`
	Unit       string `json:"unit"`
	Priority   string `json:"priority"`
	Title      string `json:"title"`
	Drill      bool   `json:"drill"`
	Alarm      string `json:"alarm"`
	Rule       string `json:"rule"`
	Zone       string `json:"zone"`
	Occurrence int    `json:"occurrence"`
	Actor      string `json:"actor,omitempty"`
	Raised     string `json:"raised"`
	Remark     string `json:"remark,omitempty"`
}

func newAlarm(a wire.Alarm) alarmData {
	return alarmData{
		Place: a.Place, Device: a.Point.Device(), Point: string(a.Point), Role: string(a.Role), Value: newValue(a.Value), Unit: string(a.Unit),
		Priority: "P" + strconv.Itoa(a.Priority), Title: a.Title, Drill: a.Drill, Alarm: a.Alarm.String(), Rule: a.Rule, Zone: a.Zone,
		Occurrence: a.Occurrence, Actor: a.Actor, Raised: stamp(a.Raised), Remark: a.Remark,
	}
}

// gapData: records first..last of the lane are gone for good.
type gapData struct {
	Lane   string `json:"lane"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	Reason string `json:"reason"`
}

type noteData struct {
	Text  string            `json:"text"`
	Attrs map[string]string `json:"attrs,omitempty"`
}

// telemetryData is what one device measured over a few polls, by column:
// values[i] was measured at rows[i], null where there was no reading. A column
// has qualities only if not all of its readings are good.
type telemetryData struct {
	Device  string            `json:"device"`
	Rows    []string          `json:"rows"`
	Columns []telemetryColumn `json:"columns"`
}

type telemetryColumn struct {
	Point     string `json:"point"`
	Role      string `json:"role"`
	Unit      string `json:"unit"`
	Values    []any  `json:"values"`
	Qualities []any  `json:"qualities,omitempty"`
}

func newTelemetry(t wire.Telemetry) telemetryData {
	d := telemetryData{Device: t.Device, Rows: make([]string, len(t.Rows)), Columns: make([]telemetryColumn, len(t.Columns))}
	for i, at := range t.Rows {
		d.Rows[i] = stamp(at)
	}
	for i, c := range t.Columns {
		d.Columns[i] = newColumn(t.Device, c, len(t.Rows))
	}
	return d
}

func newColumn(device string, c wire.Column, rows int) telemetryColumn {
	col := telemetryColumn{Point: device + "/" + c.Point, Role: string(c.Role), Unit: string(c.Unit), Values: make([]any, rows)}
	if len(c.Qualities) > 0 {
		col.Qualities = make([]any, rows)
	}
	for i := range max(len(c.Nums), len(c.Texts)) {
		row := i
		if len(c.Rows) > 0 {
			row = int(c.Rows[i])
		}
		v := point.Value{Kind: c.Kind}
		if len(c.Nums) > 0 {
			v.Num = c.Nums[i]
		}
		if len(c.Texts) > 0 {
			v.Text = c.Texts[i]
		}
		col.Values[row] = newValue(v)
		if col.Qualities != nil {
			col.Qualities[row] = c.Qualities[i].String()
		}
	}
	return col
}

// newValue returns the JSON form of a value: number, boolean, string or null.
func newValue(v point.Value) any {
	switch v.Kind {
	case point.Number:
		if math.IsNaN(v.Num) || math.IsInf(v.Num, 0) {
			return nil // JSON has no such number
		}
		return json.Number(strconv.FormatFloat(v.Num, 'f', -1, 64))
	case point.Bool:
		return v.Num != 0
	case point.State, point.Text:
		return v.Text
	}
	return nil
}

// stamp prints a time as RFC 3339 in the one zone all compounds are in.
func stamp(t time.Time) string { return t.In(beijing).Format(time.RFC3339Nano) }
