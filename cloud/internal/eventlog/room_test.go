package eventlog

import (
	"math/rand/v2"
	"testing"
	"time"

	"gatehouse/protocol/wire"
)

func TestFullLaneLosesItsOldestAndTakesNoOtherLanesRoom(t *testing.T) {
	const room, size, n = 8 << 20, 400 << 10, 30
	dir := t.TempDir()
	l, stop := openLogWith(t, dir, Options{Room: room})
	appended(t, l, origin, batch(t, "e1", 1, 3))
	random := rand.NewChaCha8([32]byte{})
	telemetry := func(seq uint64) {
		t.Helper()
		body := make([]byte, size) // does not compress
		_, _ = random.Read(body)
		appended(t, l, origin, wire.Batch{Version: 1, Gateway: origin.Gateway, Epoch: "e1", Lane: wire.LaneTelemetry, Records: []wire.Record{
			{ID: wire.NewEventID(), Lane: wire.LaneTelemetry, Seq: seq, Kind: wire.KindTelemetry, Time: time.Now(), Body: body},
		}})
	}
	telemetry(1)
	f := Filter{Kinds: []string{"telemetry"}}
	page, cur, err := l.Read(t.Context(), f, Cursor{}, 1)
	if err != nil || len(page) != 1 {
		t.Fatalf("%d entries, %v", len(page), err)
	}
	for seq := uint64(2); seq <= n; seq++ {
		telemetry(seq)
	}
	info, err := l.lanes[wire.LaneTelemetry].stream.Info(t.Context())
	if err != nil || info.State.Bytes > room/100*55 {
		t.Fatalf("telemetry takes %d bytes, %v", info.State.Bytes, err)
	}
	entries, _ := readAll(t, l, f, cur, 100)
	if len(entries) < 5 || len(entries) > n/2 || entries[0].Record.Kind != wire.KindGap || entries[0].Gateway != "" || entries[len(entries)-1].Record.Seq != n {
		t.Fatalf("after the loss the reader hears of %v", seqs(entries))
	}
	appended(t, l, origin, batch(t, "e1", 4, 5))
	if alarms, _ := readAll(t, l, Filter{Kinds: []string{"alarm"}}, Cursor{}, 100); len(alarms) != 5 {
		t.Fatalf("%d alarms, want all 5", len(alarms))
	}
	stop()
	l, _ = openLogWith(t, dir, Options{Room: room / 2}) // somebody else filled the disk meanwhile
	info, err = l.lanes[wire.LaneTelemetry].stream.Info(t.Context())
	if err != nil || info.State.Bytes > room/2/100*55 {
		t.Fatalf("with half the room telemetry takes %d bytes, %v", info.State.Bytes, err)
	}
}
