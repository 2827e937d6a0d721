package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"gatehouse/cloud/internal/broker"
	"gatehouse/protocol/wire"
)

// TestFormatOneIsAsDesigned reads the streams with a bare client: what stands
// in DESIGN.md is what is stored.
func TestFormatOneIsAsDesigned(t *testing.T) {
	l := openLog(t)
	js, err := jetstream.New(l.nc)
	if err != nil {
		t.Fatal(err)
	}
	b := batch(t, "e1", 2, 4)
	appended(t, l, origin, b)
	for name, age := range map[string]time.Duration{"ALARM": 400 * day, "EVENT": 400 * day, "TELEMETRY": 30 * day, "MEDIA": 30 * day} {
		s, err := js.Stream(t.Context(), name)
		if err != nil || s.CachedInfo().Config.MaxAge != age || s.CachedInfo().Config.Metadata["gatehouse.log.version"] != "1" {
			t.Errorf("stream %s: %+v, %v", name, s, err)
		}
	}
	s, err := js.Stream(t.Context(), "ALARM")
	if err != nil {
		t.Fatal(err)
	}
	for seq, want := range []string{
		1: "ev.alarm.53.01.02.001.003.gw-1.gap", 2: "ev.alarm.53.01.02.001.003.gw-1.alarm.cleared",
		3: "ev.alarm.53.01.02.001.003.gw-1.alarm.raised", 4: "ev.alarm.53.01.02.001.003.gw-1.alarm.acknowledged", 5: "mark.alarm.gw-1",
	} {
		if seq == 0 {
			continue
		}
		m, err := s.GetMsg(t.Context(), uint64(seq))
		if err != nil || m.Subject != want {
			t.Fatalf("message %d: %+v, %v; want %s", seq, m, err, want)
		}
		if seq == 5 && string(m.Data) != `{"epoch":"e1","last":4}` {
			t.Errorf("marker %s", m.Data)
		}
		if seq > 1 && seq < 5 {
			raw, err := l.dec.DecodeAll(m.Data, nil)
			if err != nil {
				t.Fatal(err)
			}
			run, err := wire.DecodeBatch(raw)
			if err != nil || run.Gateway != "gw-1" || run.Epoch != "e1" || len(run.Records) != 1 || run.Records[0].ID != b.Records[seq-2].ID {
				t.Errorf("message %d: %+v, %v", seq, run, err)
			}
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	l, stop := openLogIn(t, dir)
	js, err := jetstream.New(l.nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := l.lanes[wire.LaneEvent].stream.CachedInfo().Config
	cfg.Metadata[formatKey] = "2"
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	stop()
	b, err := broker.Start(t.Context(), broker.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := Open(context.Background(), Options{Conn: nc, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrFormat) {
		t.Fatalf("error %v", err)
	}
}

func TestUnreadableMessageIsAGapNotAWall(t *testing.T) {
	l := openLog(t)
	appended(t, l, origin, batch(t, "e1", 1, 1))
	subject, err := eventSubject(wire.LaneAlarm, origin, wire.KindAlarmRaised)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.nc.Request(subject, []byte("damaged"), time.Second); err != nil {
		t.Fatal(err)
	}
	appended(t, l, origin, batch(t, "e1", 2, 2))
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 1)
	if len(entries) != 3 || entries[1].Record.Kind != wire.KindGap || entries[1].Gateway != "" || entries[2].Record.Seq != 2 {
		t.Fatalf("entries %+v", entries)
	}
}

func TestMarkerOutlivesTheRecords(t *testing.T) {
	l := openLog(t)
	appended(t, l, origin, batch(t, "e1", 1, 3))
	_, cur := readAll(t, l, Filter{}, Cursor{}, 10)
	js, err := jetstream.New(l.nc)
	if err != nil {
		t.Fatal(err)
	}
	ln := l.lanes[wire.LaneAlarm]
	cfg := ln.stream.CachedInfo().Config
	cfg.MaxAge, cfg.Duplicates = 100*time.Millisecond, 100*time.Millisecond
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	deadline, tick := time.NewTimer(10*time.Second), time.NewTicker(20*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for {
		info, err := ln.stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs == 1 {
			break
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%d messages left, want the marker", info.State.Msgs)
		}
	}
	ln.forget(origin.Gateway)
	cfg.MaxAge = time.Hour
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if got := appended(t, l, origin, batch(t, "e1", 2, 5)); got != 5 {
		t.Fatalf("complete up to %d", got)
	}
	entries, _ := readAll(t, l, Filter{}, cur, 10)
	if got := seqs(entries); !slices.Equal(got, []uint64{4, 5}) {
		t.Fatalf("after the old cursor: %v", got)
	}
}

// TestFormatOneIsReadForEver reads messages as version 1 stored them. The files
// are not to be made again.
func TestFormatOneIsReadForEver(t *testing.T) {
	l := openLog(t)
	for _, c := range []struct{ file, subject string }{
		{"alarm.raised.zst", "ev.alarm.53.01.02.001.003.gw-1.alarm.raised"},
		{"gap.zst", "ev.telemetry.53.01.02.001.003.gw-1.gap"},
	} {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "testdata", "eventlog", "v1", c.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.nc.Request(c.subject, data, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 10)
	var got []string
	for _, e := range entries {
		r := e.Record
		detail := ""
		if a, err := wire.DecodeAlarm(r.Body); err == nil {
			detail = a.Title
		} else if g, err := wire.DecodeGap(r.Body); err == nil {
			detail = fmt.Sprintf("%d-%d %s", g.First, g.Last, g.Reason)
		}
		got = append(got, fmt.Sprintf("%s %d %s %s %d %s %s", e.Epoch, r.Seq, r.Kind, r.ID, r.Time.UnixNano(), r.Clock, detail))
	}
	want := []string{
		"e1 7 alarm.raised 000102030405060708090a0b0c0d0e0f 1764000000123456789 ntp 燃气报警",
		"e1 8 alarm.raised 010102030405060708090a0b0c0d0e0f 1764000001123456789 untrusted 溺水",
		"e1 12 gap 020102030405060708090a0b0c0d0e0f 1764000002123456789 cloud 9-12 spool full",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
