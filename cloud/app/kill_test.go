package app

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gatehouse/protocol/wire"
)

// childData makes the test binary a service on that data directory.
const childData = "GATEHOUSE_TEST_SERVICE_DATA"

func TestMain(m *testing.M) {
	if data := os.Getenv(childData); data != "" {
		err := Run(context.Background(), Options{
			Data: data, HTTPAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
			Ready: func(a Addrs) { fmt.Println(a.HTTP, a.MQTT) },
		})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// startChild runs the service in a process of its own.
func startChild(t testing.TB, data string) (s *service, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childData+"="+data)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the service did not start: %v", err)
	}
	addrs := strings.Fields(line)
	return &service{t: t, data: data, pid: cmd.Process.Pid, Addrs: Addrs{HTTP: addrs[0], MQTT: addrs[1]}}, kill
}

func TestKilledServiceLosesNothingAcked(t *testing.T) {
	const rounds = 6
	data := t.TempDir()
	secret := addGateway(t, data, "gw-1")
	bearer := createToken(t, data, "53", "*")
	acked := uint64(0)
	sent := map[uint64]string{} // id by sequence, of the copy that counts
	for round := range rounds {
		s, kill := startChild(t, data)
		b := connect(t, s.MQTT, "gw-1", secret)
		end := time.NewTimer(time.Duration(50+rand.IntN(150)) * time.Millisecond)
		acked = pump(t, b, acked, sent, end.C, kill)
		t.Logf("round %d: acked up to %d", round, acked)
	}
	if acked == 0 {
		t.Fatal("nothing was acked: the test proves nothing")
	}
	s, _ := startChild(t, data)
	events := s.pull(bearer, "", 1000)
	if uint64(len(events)) < acked {
		t.Fatalf("%d events, %d were acked", len(events), acked)
	}
	for i, e := range events {
		seq := uint64(i + 1)
		if e["seq"] != float64(seq) || e["id"] != sent[seq] {
			t.Fatalf("event %d is sequence %v with id %v, want %s", i, e["seq"], e["id"], sent[seq])
		}
	}
}

// pump sends as a gateway does, from behind its last ack, a few batches ahead,
// until the service is killed at the given moment. It returns the last ack.
func pump(t *testing.T, b *box, acked uint64, sent map[uint64]string, end <-chan time.Time, kill func()) uint64 {
	t.Helper()
	const size, window = 7, 4
	next := acked + 1
	for {
		for next <= acked+size*window {
			b.send(resend(t, sent, next, next+size-1))
			next += size
		}
		select {
		case a := <-b.acks:
			acked = max(acked, a.UpTo)
		case <-end:
			kill()
			for { // acks that were under way count as given
				select {
				case a := <-b.acks:
					acked = max(acked, a.UpTo)
				default:
					return acked
				}
			}
		}
	}
}

// resend makes the same record for the same sequence every time.
func resend(t *testing.T, sent map[uint64]string, first, last uint64) wire.Batch {
	t.Helper()
	batch := alarms(t, "gw-1", "e1", first, last)
	for i := range batch.Records {
		r := &batch.Records[i]
		if id, ok := sent[r.Seq]; ok {
			var err error
			if r.ID, err = wire.ParseEventID(id); err != nil {
				t.Fatal(err)
			}
			continue
		}
		sent[r.Seq] = r.ID.String()
	}
	return batch
}
