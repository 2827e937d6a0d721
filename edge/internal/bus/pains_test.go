package bus_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/edge/internal/bus"
	"gatehouse/protocol/point"
)

// TestPains plays every fixture of testdata/modbus: a real peer that behaves as
// devices in the field do, and what must and must never be read from it. The
// format is described in testdata/modbus/README.md.
func TestPains(t *testing.T) {
	files, err := filepath.Glob("../../../testdata/modbus/pain-*/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d fixtures, %v; want at least one for each of pains 1 to 5", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file)) + "/" + strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, parse(t, file))
		})
	}
}

// fixture is one parsed file.
type fixture struct {
	bus     map[string]string
	devices map[string]*drivers.Spec
	order   []string
	rules   []*answers
	wants   []expectation
	nevers  []expectation
	ratios  []ratio
	metrics []metric
}

// answers are what the peer says to one request, in order; the last repeats.
type answers struct {
	request []byte
	say     [][]string
	asked   int
}

type expectation struct {
	point   point.ID
	value   string // "*" is any
	quality string
}

// ratio wants so many readings of a point for each request to a unit.
type ratio struct {
	point point.ID
	least int
	unit  byte
}

type metric struct {
	name, op string
	value    float64
}

func parse(t *testing.T, file string) *fixture {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{devices: make(map[string]*drivers.Spec)}
	for n, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := f.line(words); err != nil {
			t.Fatalf("%s:%d: %v", file, n+1, err)
		}
	}
	return f
}

func (f *fixture) line(words []string) error {
	args := words[1:]
	switch words[0] {
	case "bus":
		f.bus = pairs(args)
	case "point":
		return f.point(args[0], pairs(args[1:]))
	case "on":
		request, err := hex.DecodeString(strings.Join(args, ""))
		f.rules = append(f.rules, &answers{request: request})
		return err
	case "say":
		last := f.rules[len(f.rules)-1]
		last.say = append(last.say, args)
	case "want":
		f.wants = append(f.wants, expectation{point.ID(args[0]), args[1], args[2]})
	case "never":
		f.nevers = append(f.nevers, expectation{point.ID(args[0]), args[1], args[2]})
	case "ratio":
		least, err := strconv.Atoi(args[1])
		unit, err2 := strconv.ParseUint(args[2], 16, 8)
		f.ratios = append(f.ratios, ratio{point.ID(args[0]), least, byte(unit)})
		return errors.Join(err, err2)
	case "metric":
		value, err := strconv.ParseFloat(args[2], 64)
		f.metrics = append(f.metrics, metric{args[0], args[1], value})
		return err
	default:
		return fmt.Errorf("unknown word %q", words[0])
	}
	return nil
}

func pairs(words []string) map[string]string {
	m := make(map[string]string)
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		m[key] = value
	}
	return m
}

// point adds one point to its device.
func (f *fixture) point(id string, args map[string]string) error {
	device := point.ID(id).Device()
	spec := f.devices[device]
	if spec == nil {
		unit, err := strconv.Atoi(args["unit"])
		if err != nil {
			return err
		}
		every, err := time.ParseDuration(f.bus["every"])
		if err != nil {
			return err
		}
		spec = &drivers.Spec{Device: device, Framing: drivers.Framing(f.bus["framing"]), Address: unit, Every: every}
		f.devices[device] = spec
		f.order = append(f.order, device)
	}
	space, address, _ := strings.Cut(args["at"], ":")
	at, err := strconv.ParseUint(address, 0, 16)
	if err != nil {
		return err
	}
	p := drivers.PointSpec{
		ID: point.ID(id), Kind: point.Number, Type: args["type"], Role: point.Role(args["role"]),
		At: drivers.Item{Space: space, Address: uint32(at)},
	}
	if space == "discrete" || space == "coil" {
		p.Kind = point.Bool
	}
	if s, ok := args["sentinel"]; ok {
		v, err := strconv.ParseUint(s, 0, 64)
		if err != nil {
			return err
		}
		p.Sentinels = []uint64{v}
	}
	if s, ok := args["max"]; ok {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return err
		}
		p.Max = &v
	}
	spec.Points = append(spec.Points, p)
	return nil
}

// peer is the device end: it answers by the rules and can go away.
type peer struct {
	t       *testing.T
	fixture *fixture
	tcp     bool // MBAP framing

	mu     sync.Mutex // guards what follows, and answers.asked
	units  map[byte]int
	leave  chan time.Duration
	before []byte // the request before this one, for stale answers
}

func (p *peer) handle(w io.Writer, request []byte) error {
	adu := request[:len(request)-2]
	if p.tcp {
		adu = request[6:]
	}
	p.mu.Lock()
	p.units[adu[0]]++
	var say []string
	for _, rule := range p.fixture.rules {
		if slices.Equal(rule.request, adu) {
			say = rule.say[min(rule.asked, len(rule.say)-1)]
			rule.asked++
			break
		}
	}
	before := p.before
	p.before = slices.Clone(request)
	p.mu.Unlock()
	return p.say(w, request, before, say)
}

// say carries out one line of answers.
func (p *peer) say(w io.Writer, request, before []byte, words []string) error {
	var out []byte
	start := 0
	flush := func() error {
		_, err := w.Write(out)
		out, start = nil, 0
		return err
	}
	for _, word := range words {
		verb, arg, _ := strings.Cut(word, ":")
		switch verb {
		case "wait", "leave":
			d, err := time.ParseDuration(arg)
			if err != nil {
				p.t.Errorf("%s: %v", word, err)
			}
			if err := flush(); err != nil {
				return err
			}
			if verb == "leave" {
				p.leave <- d
				return io.EOF
			}
			<-time.After(d)
		case "split":
			if err := flush(); err != nil {
				return err
			}
			<-time.After(5 * time.Millisecond)
		case "close":
			flush()
			return io.EOF
		case "crc":
			out = drivertest.Seal(out, start)
			start = len(out)
		case "badcrc":
			out = append(out, 0xDE, 0xAD)
			start = len(out)
		case "mbap", "stale": // the header of the frame that follows, up to its unit
			head := request
			if verb == "stale" {
				head = before
			}
			n, err := strconv.Atoi(arg)
			if err != nil {
				p.t.Errorf("%s: %v", word, err)
			}
			out = append(out, head[0], head[1], 0, 0, byte(n>>8), byte(n))
		case "echo":
			out = append(out, request...)
			start = len(out)
		default:
			b, err := hex.DecodeString(verb)
			if err != nil {
				p.t.Errorf("%s: %v", word, err)
			}
			out = append(out, b...)
		}
	}
	return flush()
}

// listen starts the peer and returns the link to it.
func (p *peer) listen(kind string) string {
	if kind == "pty" {
		master, path := drivertest.PTY(p.t)
		drivertest.ServePTY(p.t, master, drivertest.RTURequest, p.handle)
		return "serial:" + path + "?baud=115200"
	}
	size := drivertest.RTURequest
	if p.tcp {
		size = drivertest.TCPRequest
	}
	address, stop := drivertest.Serve(p.t, size, p.handle)
	ended := p.t.Context().Done()
	var wg sync.WaitGroup
	p.t.Cleanup(wg.Wait)
	wg.Go(func() { // goes away and comes back at the same address
		for {
			select {
			case <-ended:
				return
			case away := <-p.leave:
				stop()
				<-time.After(away)
				_, stop = drivertest.ServeAt(p.t, address, size, p.handle)
			}
		}
	})
	return "tcp://" + address
}

// play runs the bus against the peer until every want has been seen and every
// answer given, and one round more.
func play(t *testing.T, f *fixture) {
	p := &peer{t: t, fixture: f, tcp: f.bus["framing"] == "tcp", units: make(map[byte]int), leave: make(chan time.Duration, 1)}
	timeout, err := time.ParseDuration(f.bus["timeout"])
	if err != nil {
		t.Fatal(err)
	}
	retries, err := strconv.Atoi(f.bus["retries"])
	if err != nil {
		t.Fatal(err)
	}
	rec := newRecorder()
	registry := prometheus.NewRegistry()
	start(t, bus.Options{
		ID: "b", Link: p.listen(f.bus["link"]), Framing: drivers.Framing(f.bus["framing"]),
		Timeout: timeout, Retries: retries, Emit: rec.take, Registerer: registry,
	}, f)
	drivertest.Eventually(t, 20*time.Second, "end of the dialogue: "+fmt.Sprint(f.wants), func() bool {
		return rec.all(f.wants) && p.said()
	})
	check(t, f, p, rec, registry)
}

// said reports whether every answer was given, the last one twice.
func (p *peer) said() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, rule := range p.fixture.rules {
		if rule.asked <= len(rule.say) {
			return false
		}
	}
	return true
}

func check(t *testing.T, f *fixture, p *peer, rec *recorder, registry *prometheus.Registry) {
	readings := rec.snapshot()
	for _, never := range f.nevers {
		for _, r := range readings {
			if never.matches(r) {
				t.Errorf("read %s = %v (%v), which must never be", r.Point, r.Value, r.Quality)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, want := range f.ratios {
		if got, asked := rec.times(want.point), p.units[want.unit]; got < want.least*asked {
			t.Errorf("%s was read %d times while unit %d was asked %d times, want at least %d to one",
				want.point, got, want.unit, asked, want.least)
		}
	}
	for _, m := range f.metrics {
		got, err := gather(registry, m.name)
		if err != nil {
			t.Error(err)
		}
		if ok := m.op == "=" && got == m.value || m.op == ">" && got > m.value; !ok {
			t.Errorf("%s is %v, want %s %v", m.name, got, m.op, m.value)
		}
	}
}

// gather sums all series of a metric.
func gather(registry *prometheus.Registry, name string) (sum float64, err error) {
	families, err := registry.Gather()
	if err != nil {
		return 0, err
	}
	if n, err := testutil.GatherAndCount(registry, name); err != nil || n == 0 {
		return 0, fmt.Errorf("no metric %s: %w", name, err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum, nil
}

// recorder keeps what was read.
type recorder struct {
	mu       sync.Mutex
	readings []point.Reading
	count    map[point.ID]int
}

func newRecorder() *recorder { return &recorder{count: make(map[point.ID]int)} }

// snapshot returns what was read so far.
func (r *recorder) snapshot() []point.Reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.readings)
}

func (r *recorder) take(batch []point.Reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, reading := range batch {
		r.readings = append(r.readings, reading)
		r.count[reading.Point]++
	}
}

// times is how often a point was read.
func (r *recorder) times(p point.ID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count[p]
}

// all reports whether every expectation was read at some time.
func (r *recorder) all(wants []expectation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, want := range wants {
		if !slices.ContainsFunc(r.readings, want.matches) {
			return false
		}
	}
	return true
}

func (e expectation) matches(r point.Reading) bool {
	return r.Point == e.point && (e.value == "*" || e.value == r.Value.String()) &&
		(e.quality == "*" || e.quality == r.Quality.String())
}
