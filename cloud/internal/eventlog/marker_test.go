package eventlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"gatehouse/protocol/wire"
)

func TestReturningEpochGoesOnFromWhereItWas(t *testing.T) {
	l := openLog(t)
	for _, step := range []struct {
		name        string
		epoch       string
		first, last uint64
		want        uint64
	}{
		{"an epoch", "e1", 1, 3, 3},
		{"another", "e2", 1, 2, 2},
		{"the first says it again", "e1", 1, 3, 3},
		{"the first goes on", "e1", 3, 5, 5},
		{"the second goes on", "e2", 3, 3, 3},
		{"the first leaves a hole", "e1", 8, 9, 5},
		{"the first again", "e1", 6, 6, 6},
	} {
		l.lanes[wire.LaneAlarm].forget(origin.Gateway) // what is stored must be enough to know
		if got := appended(t, l, origin, batch(t, step.epoch, step.first, step.last)); got != step.want {
			t.Fatalf("%s: complete up to %d, want %d", step.name, got, step.want)
		}
	}
	var got []string
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 100)
	for _, e := range entries {
		if e.Record.Kind == wire.KindGap {
			t.Errorf("a gap of epoch %s was made up", e.Epoch)
		}
		got = append(got, fmt.Sprintf("%s:%d", e.Epoch, e.Record.Seq))
	}
	want := []string{"e1:1", "e1:2", "e1:3", "e2:1", "e2:2", "e1:4", "e1:5", "e2:3", "e1:6"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestMarkerRemembersABoundedNumberOfEpochs(t *testing.T) {
	m := marker{}
	for n := range uint64(3 * maxEarlier) {
		m = m.moved(fmt.Sprintf("e%d", n), n+1)
		m.at = n + 1
	}
	if len(m.Earlier) != maxEarlier || m.Earlier[0] != (mark{Epoch: fmt.Sprintf("e%d", 3*maxEarlier-2), Last: 3*maxEarlier - 1}) {
		t.Fatalf("%+v", m)
	}
	if back := m.moved(m.Earlier[3].Epoch, 99); len(back.Earlier) != maxEarlier || slices.ContainsFunc(back.Earlier, func(e mark) bool { return e.Epoch == back.Epoch }) {
		t.Errorf("after a return: %+v", back)
	}
}

func TestMarkerJSONIsExtensible(t *testing.T) {
	m, err := parseMarker([]byte(`{"epoch":"e1","last":4,"owner":{"node":3}}`), 7)
	if err != nil || m.Epoch != "e1" || m.Last != 4 || m.at != 7 {
		t.Errorf("with a field of the future: %+v, %v", m, err)
	}
	if p, err := json.Marshal(m); err != nil || string(p) != `{"epoch":"e1","last":4}` {
		t.Errorf("marker %s, %v", p, err)
	}
	if _, err := parseMarker([]byte(`{"v":2,"epoch":"e1","last":4}`), 7); !errors.Is(err, ErrFormat) {
		t.Errorf("a marker of version 2: %v", err)
	}
}
