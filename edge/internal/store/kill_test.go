package store

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/protocol/wire"
)

const (
	childDir = "GATEHOUSE_STORE_CHILD" // set: this process is the one to be killed
	writers  = 4
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(flipDir); dir != "" {
		if err := flipAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, write(dir)) // returns only when something is wrong
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// write commits as fast as it can, for ever. Each accepted commit is one line
// "writer number" on standard output.
func write(dir string) error {
	s, err := Open(Options{Dir: dir, SpoolEvery: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	counts := make([]int, writers)
	err = s.Load(func(key string, state []byte) error {
		w, err := strconv.Atoi(key)
		if err == nil {
			counts[w], err = strconv.Atoi(string(state))
		}
		return err
	})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for w := range writers {
		go func() {
			for n := counts[w] + 1; ; n++ {
				r := rec(wire.LaneAlarm, fmt.Sprint(w, n))
				if err := s.Commit(fmt.Sprint(w), []byte(fmt.Sprint(n)), r); err != nil {
					failed <- err
					return
				}
				if _, err := fmt.Println(w, n); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	_, stored := s.Lane(wire.LaneTelemetry).Position()
	go func() {
		n := stored + 1
		for range time.Tick(time.Millisecond) {
			for range 50 {
				if err := s.Append(rec(wire.LaneTelemetry, fmt.Sprint(n))); err != nil {
					failed <- err
					return
				}
				n++
			}
		}
	}()
	return <-failed
}

func TestKilledAtAnyMomentNothingCommittedIsLostOrInvented(t *testing.T) {
	kills := 5
	if os.Getenv("GATEHOUSE_TORTURE") == "1" {
		kills = 1000
	}
	var (
		dir      string
		accepted []int
	)
	for i := range kills {
		if i%50 == 0 { // a fresh store now and then: reading it all back takes longer each time
			dir, accepted = t.TempDir(), make([]int, writers)
		}
		live(t, dir, accepted)
		verify(t, dir, accepted)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills, accepted by writer: %v", kills, accepted)
}

// live runs one life of the child and kills it at a random moment after its
// first acceptance.
func live(t *testing.T, dir string, accepted []int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	var stderr strings.Builder
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var kill *time.Timer
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if kill == nil {
			kill = time.AfterFunc(rand.N(250*time.Millisecond), func() { _ = child.Process.Kill() })
		}
		var w, n int
		if _, err := fmt.Sscan(lines.Text(), &w, &n); err != nil {
			continue // cut off by the kill: not an acceptance
		}
		accepted[w] = max(accepted[w], n)
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.Exited() || kill == nil {
		t.Fatalf("the child was not killed but ended: %v\n%s", err, stderr.String())
	}
}

// verify opens the store anew and holds it against what was accepted: in each
// life one commit per writer may have been stored without its acceptance having
// got out.
func verify(t *testing.T, dir string, accepted []int) {
	t.Helper()
	s := open(t, dir)
	defer mustClose(t, s)
	state := make([]int, writers)
	err := s.Load(func(key string, v []byte) error {
		w, err := strconv.Atoi(key)
		if err == nil {
			state[w], err = strconv.Atoi(string(v))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	last := make([]int, writers)
	for _, r := range drain(t, s, wire.LaneAlarm, 0) {
		var w, n int
		if _, err := fmt.Sscan(string(r.Body), &w, &n); err != nil || n != last[w]+1 {
			t.Fatalf("record %d: %q after number %d of its writer (%v)", r.Seq, r.Body, last[w], err)
		}
		last[w] = n
	}
	for w := range writers {
		if last[w] != state[w] || state[w] < accepted[w] || state[w] > accepted[w]+1 {
			t.Errorf("writer %d: accepted %d, state says %d, records say %d", w, accepted[w], state[w], last[w])
		}
		accepted[w] = state[w] // the next life goes on from here
	}
	for i, r := range drain(t, s, wire.LaneTelemetry, 0) {
		if string(r.Body) != fmt.Sprint(i+1) {
			t.Fatalf("telemetry %d: %q", r.Seq, r.Body)
		}
	}
}
