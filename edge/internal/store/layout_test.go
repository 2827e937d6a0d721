package store

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gatehouse/protocol/wire"
)

// The bytes below are on thousands of cards: they never change.
func TestRecordLayoutIsFinal(t *testing.T) {
	r := wire.Record{
		ID: wire.EventID{0xa1, 15: 0xa2}, Lane: wire.LaneAlarm, Kind: "alarm.raised", Time: time.Unix(0, 0x0102030405060708),
		Clock: wire.ClockNTP, Boot: wire.BootID{0xb1, 15: 0xb2}, Mono: 0x1112131415161718, Body: []byte("body"),
	}
	const want = "01" + "00" + "01" + "03" + // version, flags, lane, clock
		"2122232425262728" + // epoch
		"b10000000000000000000000000000b2" + // boot
		"a10000000000000000000000000000a2" + // id
		"0102030405060708" + "1112131415161718" + // time, mono
		"0c" + "616c61726d2e726169736564" + "626f6479" + // kind, body
		"4a6f1c8a" // CRC32C over the key and all before
	got := hex.EncodeToString(seal(appendRecord(nil, 0x2122232425262728, &r), 0, seqKey(7)))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p := position{acked: 5, marks: []mark{{upTo: 3, age: time.Hour}}}
	const wantPosition = "01" + "0000000000000005" + "0000000000000003" + "00000e10"
	if got := hex.EncodeToString(p.encode()); got != wantPosition {
		t.Errorf("got  %s\nwant %s", got, wantPosition)
	}
}

func TestFilesOfVersion1CanBeRead(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{alarmFile, spoolFile} {
		b := read(t, filepath.Join("../../../testdata/store/v1", name))
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	state := map[string]string{}
	if err := s.Load(func(k string, v []byte) error { state[k] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(state) != 2 || state["alarm/gas-501"] != "state raised again" || state["gateway/started"] != "1.0" {
		t.Errorf("state %v", state)
	}
	alarms := drain(t, s, wire.LaneAlarm, 0)
	wantBodies(t, alarms, "raised", "acknowledged", "cleared", "raised again")
	if r := alarms[2]; r.ID != (wire.EventID{0xa0, 3}) || r.Time.UnixNano() != 1764000000123456789 ||
		r.Clock != wire.ClockCloud || r.Boot != (wire.BootID{7}) || r.Mono != 42*time.Second || r.Kind != wire.KindAlarmRaised {
		t.Errorf("record %+v", r)
	}
	wantBodies(t, drain(t, s, wire.LaneEvent, 0), "started")
	telemetry := drain(t, s, wire.LaneTelemetry, 3)
	if got := bodies(telemetry[:2]); got[0] != "gap 4..10 quota <nil>" || got[1] != "readings" || telemetry[len(telemetry)-1].Seq != 20 {
		t.Errorf("telemetry begins with %q", got)
	}
	if acked, head := s.Lane(wire.LaneAlarm).Position(); acked != 2 || head != 4 {
		t.Errorf("alarm lane at %d of %d", acked, head)
	}
	s.tend(s.alarm, 24*time.Hour)
	wantBodies(t, drain(t, s, wire.LaneAlarm, 0), "gap 1..2 expired <nil>", "cleared", "raised again")
	mustCommit(t, s, "alarm/gas-501", "state cleared", rec(wire.LaneAlarm, "cleared again"))
	wantBodies(t, drain(t, s, wire.LaneAlarm, 4), "cleared again")
}
