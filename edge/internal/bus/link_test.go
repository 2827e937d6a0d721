package bus

import (
	"net/netip"
	"reflect"
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
		"serial:/dev/ttyS1?rs485=rts-low": {Serial: true, Address: "/dev/ttyS1", RS485: DirectionRTSLow,
			Mode: Mode{Baud: 9600, Parity: ParityNone, StopBits: 1}},
		"serial:/dev/ttyS1?rs485=off":    {Serial: true, Address: "/dev/ttyS1", RS485: DirectionOff, Mode: Mode{Baud: 9600, Parity: ParityNone, StopBits: 1}},
		"tcp://usr:8899?heartbeat=FE-01": {Address: "usr:8899", Heartbeat: "\xfe\x01", Mode: Mode{Parity: ParityNone, StopBits: 1}},
		"tcp-listen://:9000?register=5a:01,5A 02&baud=9600": {Listen: true, Address: ":9000", Register: []string{"Z\x01", "Z\x02"},
			Mode: Mode{Baud: 9600, Parity: ParityNone, StopBits: 1}},
		"tcp-listen://[::ffff:10.0.0.1]:09000?allow=10.8.3.4/16,192.0.2.7": {Listen: true, Address: "10.0.0.1:9000",
			Allow: []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16"), netip.MustParsePrefix("192.0.2.7/32")},
			Mode:  Mode{Parity: ParityNone, StopBits: 1}},
		"tcp://moxa:4001?baud=19200": {Address: "moxa:4001", Mode: Mode{Baud: 19200, Parity: ParityNone, StopBits: 1}},
	}
	for s, want := range good {
		if got, err := ParseLink(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseLink(%q) = %+v, %v; want %+v", s, got, err, want)
		}
	}
	bad := map[string]string{
		"":                                           "want serial:PATH",
		"udp://h:1":                                  "want serial:PATH",
		"serial:ttyS1":                               "survives a reboot",
		"serial:/dev/x?baud=fast":                    "such as 9600",
		"serial:/dev/x?parity=mark":                  "none, even or odd",
		"serial:/dev/x?stop=3":                       "want 1 or 2",
		"serial:/dev/x?speed=9600":                   "baud, parity, stop and rs485",
		"tcp://h":                                    "tcp://HOST:PORT",
		"tcp://:502":                                 "tcp://HOST:PORT",
		"tcp://h:0":                                  "tcp://HOST:PORT",
		"tcp://h:70000":                              "tcp://HOST:PORT",
		"tcp://h:1?parity=even":                      "unknown parameter",
		"serial:/dev/x?rs485=yes":                    "off, rts-high or rts-low",
		"serial:/dev/x?heartbeat=01":                 "unknown parameter",
		"tcp://h:1?register=01":                      "unknown parameter",
		"tcp://h:1?heartbeat=":                       "in hexadecimal",
		"tcp://h:1?heartbeat=ABC":                    "in hexadecimal",
		"tcp-listen://:9000":                         "who may dial in",
		"tcp-listen://:9000?heartbeat=00":            "who may dial in",
		"tcp-listen://:0?allow=::/0":                 "ADDRESS:PORT",
		"tcp-listen://host:9000?allow=::/0":          "ADDRESS:PORT",
		"tcp-listen://[fe80::1%25eth0]:9?allow=::/0": "ADDRESS:PORT",
		"tcp-listen://:1?parity=even&register=1":     "5A01,5A02",
		"tcp-listen://:1?register=5A01,5A":           "begin alike",
		"tcp-listen://:1?register=" + strings.Repeat("5", 130): "1 to 64 bytes",
		"tcp-listen://:1?allow=anyone":                         "10.8.0.0/16",
		"tcp-listen://:1?allow=::ffff:1.2.3.4/120":             "10.8.0.0/16",
		"tcp-listen://:1?allow=1.2.3.4/33":                     "10.8.0.0/16",
		"serial:/dev/x?baud=1&stop=9":                          "stop=9",
		"serial:/dev/x?baud=9600;stop=":                        "key=value",
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
	f.Add("tcp-listen://[::]:9000?register=5a:01,5a02&allow=10.0.0.0/8,fe80::1&heartbeat=fe&baud=9600")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLink(s)
		if err != nil {
			return
		}
		again, err := ParseLink(l.String())
		if err != nil || again.Address != l.Address || again.Serial != l.Serial || again.Listen != l.Listen ||
			!reflect.DeepEqual(again.Register, l.Register) || !reflect.DeepEqual(again.Allow, l.Allow) || again.String() != l.String() {
			t.Errorf("%q became %q: %+v, %v", s, l, again, err)
		}
		if l.Conflict(again) == nil {
			t.Errorf("%q can be used twice", s)
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

func TestLinksThatExcludeEachOther(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"serial:/dev/x", "serial:/dev/y", ""},
		{"serial:/dev/x", "serial:/dev/x?baud=2400", "used twice"},
		{"tcp://h:1", "tcp://h:2", ""},
		{"tcp://h:1", "tcp://h:1", "used twice"},
		{"tcp://h:1", "tcp-listen://:1?allow=::/0", ""},
		{"tcp-listen://:1?register=01", "tcp-listen://:2?register=01", ""},
		{"tcp-listen://:1?register=01", "tcp-listen://:1?register=02", ""},
		{"tcp-listen://:1?register=01", "tcp-listen://:1?register=03,0102", "begin alike"},
		{"tcp-listen://:1?register=01", "tcp-listen://:1?allow=10.0.0.1", "share a port"},
		{"tcp-listen://:1?register=01", "tcp-listen://10.0.0.1:1?register=02", "same address"},
		{"tcp-listen://10.0.0.2:1?register=01", "tcp-listen://10.0.0.1:1?register=01", ""},
	} {
		a, errA := ParseLink(c.a)
		b, errB := ParseLink(c.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		for _, err := range []error{a.Conflict(b), b.Conflict(a)} {
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s beside %s: %v, want %q", c.a, c.b, err, c.want)
			}
		}
	}
}
