package api

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/cloud/internal/api/schema"
	"gatehouse/cloud/internal/eventlog"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// shape is what of JSON Schema the published files use.
type shape struct {
	Schema, Title, Description string
	Type                       any // a name or several
	Format, Pattern            string
	Enum                       []string
	Minimum                    *float64
	Properties                 map[string]*shape
	AdditionalProperties       *shape
	Required                   []string
	Items                      *shape
}

func loadShape(t *testing.T, name string) *shape {
	t.Helper()
	p, err := schema.Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var s shape
	d := json.NewDecoder(strings.NewReader(strings.Replace(string(p), `"$schema"`, `"schema"`, 1)))
	d.DisallowUnknownFields() // a keyword that this checker would ignore
	if err := d.Decode(&s); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &s
}

// check returns what is wrong with v, by path. A property the schema does not
// name is wrong too: what is published is described.
func (s *shape) check(path string, v any) (wrong []string) {
	if !s.allows(typeOf(v)) {
		return []string{fmt.Sprintf("%s is %s, want %v", path, typeOf(v), s.Type)}
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range s.Required {
			if _, ok := v[k]; !ok {
				wrong = append(wrong, path+"."+k+" is missing")
			}
		}
		for k, x := range v {
			sub := s.Properties[k]
			if sub == nil {
				sub = s.AdditionalProperties
			}
			if sub != nil {
				wrong = append(wrong, sub.check(path+"."+k, x)...)
			} else if s.Properties != nil {
				wrong = append(wrong, path+"."+k+" is not described")
			}
		}
	case []any:
		for i, x := range v {
			wrong = append(wrong, s.Items.check(fmt.Sprintf("%s[%d]", path, i), x)...)
		}
	case string:
		_, err := time.Parse(time.RFC3339, v)
		if s.Enum != nil && !slices.Contains(s.Enum, v) || s.Format == "date-time" && err != nil ||
			s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			wrong = append(wrong, fmt.Sprintf("%s is %q", path, v))
		}
	case float64:
		if s.Minimum != nil && v < *s.Minimum {
			wrong = append(wrong, fmt.Sprintf("%s is %v", path, v))
		}
	}
	return wrong
}

func (s *shape) allows(kind string) bool {
	list, ok := s.Type.([]any)
	if !ok {
		list = []any{s.Type}
	}
	return slices.Contains(list, any(kind)) || kind == "integer" && slices.Contains(list, any("number"))
}

func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return reflect.TypeOf(v).String()
}

func TestEveryPublishedTypeIsAsItsSchemaSays(t *testing.T) {
	now := time.Now()
	alarm := func(v point.Value) encoder {
		return wire.Alarm{Alarm: wire.NewEventID(), Rule: "r", Point: "d/p", Place: "3/2", Value: v, Priority: 1, Title: "燃气", Raised: now}
	}
	telemetry := wire.Telemetry{Device: "d", Rows: []time.Time{now, now.Add(time.Second)}, Columns: []wire.Column{
		{Point: "n", Kind: point.Number, Nums: []float64{1, 2.5}},
		{Point: "t", Kind: point.Text, Rows: []uint32{1}, Texts: []string{"x"}, Qualities: []point.Quality{point.Fault}},
	}}
	events, datas := loadShape(t, "event.json"), map[string]bool{}
	for _, c := range []struct {
		kind string
		lane wire.Lane
		body encoder
	}{
		{wire.KindAlarmRaised, wire.LaneAlarm, alarm(point.Truth(true))},
		{wire.KindAlarmAcknowledged, wire.LaneAlarm, alarm(point.Value{Kind: point.Number, Num: math.NaN()})},
		{wire.KindAlarmCleared, wire.LaneAlarm, alarm(point.Value{Kind: point.State, Num: 2, Text: "高报"})},
		{wire.KindTelemetry, wire.LaneTelemetry, telemetry},
		{wire.KindGatewayStarted, wire.LaneEvent, wire.Note{Text: "started"}},
		{wire.KindGatewayCommand, wire.LaneEvent, wire.Note{Text: "device command", Attrs: map[string]string{"device": "qf-1", "by": "老王"}}},
		{wire.KindGatewayFault, wire.LaneEvent, wire.Note{Text: "fault", Attrs: map[string]string{"bus": "b1"}}},
		{wire.KindGap, wire.LaneMedia, wire.Gap{First: 1, Last: 4, Reason: "quota"}},
		{"future.kind", wire.LaneEvent, wire.Note{Text: "opaque"}},
	} {
		body, err := c.body.Encode()
		if err != nil {
			t.Fatal(err)
		}
		p, err := json.Marshal(newEvent(eventlog.Entry{Gateway: "gw-1", Division: "530102001003", Epoch: "e", Received: now, Record: wire.Record{
			ID: wire.NewEventID(), Lane: c.lane, Seq: 4, Kind: c.kind, Time: now, Clock: wire.ClockNTP, Body: body,
		}}))
		if err != nil {
			t.Fatal(err)
		}
		var ev map[string]any
		if err := json.Unmarshal(p, &ev); err != nil {
			t.Fatal(err)
		}
		wrong := events.check(c.kind, ev)
		file := schema.DataFile(c.kind)
		if datas[file] = true; file != "" {
			wrong = append(wrong, loadShape(t, file).check(c.kind+".data", ev["data"])...)
		} else if ev["data"] != nil {
			wrong = append(wrong, c.kind+" has data that no schema describes")
		}
		for _, w := range wrong {
			t.Error(w)
		}
	}
	files, err := schema.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() != "event.json" && !datas[f.Name()] {
			t.Errorf("%s describes no event of this test", f.Name())
		}
	}
}

// encoder is a body.
type encoder interface{ Encode() ([]byte, error) }
