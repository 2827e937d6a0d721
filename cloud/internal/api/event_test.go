package api

import (
	"testing"
	"time"

	"gatehouse/cloud/internal/eventlog"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

func telemetryEvent(t *testing.T, rows, columns int, fill func(row int) bool) (event, int) {
	t.Helper()
	tel := wire.Telemetry{Device: "d"}
	at := time.Unix(1e9, 0)
	var filled []uint32
	for i := range rows {
		tel.Rows = append(tel.Rows, at)
		if fill(i) {
			filled = append(filled, uint32(i))
		}
	}
	for range columns {
		tel.Columns = append(tel.Columns, wire.Column{Kind: point.Bool, Rows: filled, Nums: make([]float64, len(filled))})
	}
	body, err := tel.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return newEvent(eventlog.Entry{Gateway: "gw-1", Record: wire.Record{Kind: wire.KindTelemetry, Lane: wire.LaneTelemetry, Body: body}}), len(body)
}

func TestSparseTelemetryTravelsOpaqueBeforeItUnfolds(t *testing.T) {
	ev, size := telemetryEvent(t, 8000, 1000, func(row int) bool { return row == 1 })
	if size > maxBody {
		t.Fatalf("body of %d bytes proves nothing", size)
	}
	if ev.Data != nil || len(ev.DataBase64) != size {
		t.Errorf("%d bytes unfolded into 8000 x 1000 places", size)
	}
	for _, c := range []struct {
		name          string
		rows, columns int
		fill          func(int) bool
	}{
		{"dense", 600, 40, func(int) bool { return true }},
		{"every tenth", 600, 40, func(row int) bool { return row%10 == 0 }},
		{"one row", 1, 2000, func(int) bool { return true }},
		{"one reading", 1, 1, func(int) bool { return true }},
		{"one reading in a long time", 60, 8, func(row int) bool { return row == 3 }},
	} {
		if ev, size := telemetryEvent(t, c.rows, c.columns, c.fill); ev.Data == nil {
			t.Errorf("%s: %d bytes for %d x %d places travel opaque", c.name, size, c.rows, c.columns)
		}
	}
}
