package bus

import (
	"strings"
	"testing"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

func TestParseLink(t *testing.T) {
	good := map[string]Link{
		"serial:/dev/ttyS1": {Serial: true, Address: "/dev/ttyS1", Mode: Mode{Baud: 9600, Parity: ParityNone, StopBits: 1}},
		"serial:/dev/ttyS1?baud=2400&parity=even&stop=2": {Serial: true, Address: "/dev/ttyS1", Mode: Mode{Baud: 2400, Parity: ParityEven, StopBits: 2}},
		"tcp://10.0.0.9:502":                             {Address: "10.0.0.9:502", Mode: Mode{Parity: ParityNone, StopBits: 1}},
		"tcp://[::1]:502":                                {Address: "[::1]:502", Mode: Mode{Parity: ParityNone, StopBits: 1}},
		"tcp://moxa:4001?baud=19200":                     {Address: "moxa:4001", Mode: Mode{Baud: 19200, Parity: ParityNone, StopBits: 1}},
	}
	for s, want := range good {
		if got, err := ParseLink(s); err != nil || got != want {
			t.Errorf("ParseLink(%q) = %+v, %v; want %+v", s, got, err, want)
		}
	}
	bad := map[string]string{
		"":                              "want serial:PATH",
		"udp://h:1":                     "want serial:PATH",
		"serial:ttyS1":                  "survives a reboot",
		"serial:/dev/x?baud=fast":       "such as 9600",
		"serial:/dev/x?parity=mark":     "none, even or odd",
		"serial:/dev/x?stop=3":          "want 1 or 2",
		"serial:/dev/x?speed=9600":      "baud, parity and stop",
		"tcp://h":                       "tcp://HOST:PORT",
		"tcp://:502":                    "tcp://HOST:PORT",
		"tcp://h:0":                     "tcp://HOST:PORT",
		"tcp://h:70000":                 "tcp://HOST:PORT",
		"tcp://h:1?parity=even":         "unknown parameter",
		"serial:/dev/x?baud=1&stop=9":   "stop=9",
		"serial:/dev/x?baud=9600;stop=": "key=value",
	}
	for s, want := range bad {
		if _, err := ParseLink(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseLink(%q): %v; want %q in it", s, err, want)
		}
	}
}

func TestFaultsOfALinkAreToldInOneOrder(t *testing.T) {
	const want = "baud=x parity=y stop=z"
	for range 50 {
		_, err := ParseLink("serial:/dev/x?stop=z&parity=y&baud=x")
		var got []string
		for line := range strings.Lines(err.Error()) {
			_, fault, _ := strings.Cut(line, `": `)
			fault, _, _ = strings.Cut(fault, ":")
			got = append(got, fault)
		}
		if order := strings.Join(got, " "); order != want {
			t.Fatalf("told %q, want %q", order, want)
		}
	}
}

// FuzzParseLink checks that what is accepted means the same when written out.
func FuzzParseLink(f *testing.F) {
	f.Add("serial:/dev/ttyS1?baud=2400&parity=even&stop=2")
	f.Add("tcp://10.0.0.9:502")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLink(s)
		if err != nil {
			return
		}
		again, err := ParseLink(l.String())
		if err != nil || again.Address != l.Address || again.Serial != l.Serial {
			t.Errorf("%q became %q: %+v, %v", s, l, again, err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	emit := func([]point.Reading) {}
	bad := map[string]Options{
		"no id":                   {Link: "tcp://h:1", Emit: emit},
		"nobody takes":            {ID: "b", Link: "tcp://h:1"},
		"framing tcp on a serial": {ID: "b", Link: "serial:/dev/x", Framing: drivers.TCP, Emit: emit},
		"want rtu or tcp":         {ID: "b", Link: "tcp://h:1", Framing: "ascii", Emit: emit},
		"cannot be negative":      {ID: "b", Link: "tcp://h:1", Retries: -1, Emit: emit},
		"tcp://HOST:PORT":         {ID: "b", Link: "tcp://h", Emit: emit},
	}
	for want, opts := range bad {
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	b, err := New(Options{ID: "b", Link: "tcp://h:1", Emit: emit})
	if err != nil {
		t.Fatal(err)
	}
	b.Link("d", Timing{})
	d := &fakeDriver{jobs: []drivers.Job{{}}}
	if err := b.Attach("d", d); err == nil || !strings.Contains(err.Error(), "no period") {
		t.Errorf("a job without a period: %v", err)
	}
	d.jobs = nil
	if err := b.Attach("d", d); err != nil {
		t.Error(err)
	}
	if err := b.Attach("d", d); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a device attached twice: %v", err)
	}
}
