package osdp

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

// reader plays a door reader by the published rules. Once warm it does not allocate.
type reader struct {
	address  byte
	key      []byte // its own; nil: the default key only
	setup    bool   // it takes the default key
	noAES    bool
	sumsOnly bool // it knows checksums, not CRC

	tamper, power byte
	inputs        []byte
	noLevels      bool
	events        [][]byte // code and payload, told one by one to a poll

	// Faults.
	deaf     bool                             // it hears nothing
	mute     bool                             // it hears, and its reply is lost
	busy     int                              // so many commands are put off
	garbled  int                              // so many commands come damaged, and it says so
	nak      map[byte]byte                    // command to reason
	instead  map[byte][]byte                  // command to what it says in place of the right answer: code and payload
	strict   bool                             // it begins a session only when it was itself begun anew
	begun    bool                             // there has been a session since
	downcast bool                             // it answers in clear text inside a session
	change   func(code byte, b []byte) []byte // changes what travels to the panel

	channel  *osdp.Channel
	up       bool
	cp, pd   [8]byte
	last     byte
	reply    []byte // stored
	out      []byte
	payload  []byte
	block    [2]byte
	commands []byte   // codes as carried out
	outputs  [][]byte // payloads of OUT, LED and BUZ, as carried out
	defaults int      // sessions by the default key
}

func newReader(key []byte) *reader {
	return &reader{key: key, inputs: []byte{0, 1}, last: 0xFF, nak: make(map[byte]byte), instead: make(map[byte][]byte)}
}

// reboot is a power cut.
func (r *reader) reboot() { r.up, r.channel, r.last, r.reply = false, nil, 0xFF, nil }

func (r *reader) play(request []byte) []byte {
	if r.deaf {
		return nil
	}
	f, err := osdp.Parse(request)
	if err != nil || f.Reply || f.Address != r.address {
		return nil
	}
	b := r.answer(&f)
	if r.change != nil {
		b = r.change(f.Code, b)
	}
	if r.mute {
		return nil
	}
	return b
}

func (r *reader) answer(f *osdp.Frame) []byte {
	seq := f.Sequence()
	switch {
	case r.sumsOnly && f.CRC():
		return r.say(f, osdp.ReplyNAK, byte(osdp.NAKCheck))
	case r.garbled > 0:
		r.garbled--
		r.out = osdp.Append(r.out[:0], &osdp.Frame{Address: r.address, Reply: true, Control: f.Control, Code: osdp.ReplyNAK, Payload: []byte{1}})
		return r.out
	case r.busy > 0:
		r.busy--
		r.out = osdp.Append(r.out[:0], &osdp.Frame{Address: r.address, Reply: true, Control: osdp.Control(0, f.CRC()), Code: osdp.ReplyBusy})
		return r.out
	case seq == 0:
		r.up, r.begun = false, false
	case seq == r.last && len(r.reply) > 0:
		return r.reply
	case r.last == 0xFF || seq != r.last%3+1:
		return r.say(f, osdp.ReplyNAK, byte(osdp.NAKSequence))
	}
	r.last = seq
	r.reply = append(r.reply[:0], r.obey(f)...)
	return r.reply
}

// obey carries a new command out.
func (r *reader) obey(f *osdp.Frame) []byte {
	payload := f.Payload
	switch {
	case f.Secured():
		var err error
		if !r.up {
			return r.say(f, osdp.ReplyNAK, byte(osdp.NAKCondition))
		}
		if payload, err = r.channel.Open(f); err != nil {
			r.up = false
			return r.say(f, osdp.ReplyNAK, byte(osdp.NAKCondition))
		}
	case r.up && f.Code != osdp.CmdChlng:
		r.up = false
	}
	if reason := r.nak[f.Code]; reason != 0 {
		return r.say(f, osdp.ReplyNAK, reason)
	}
	r.commands = append(r.commands, f.Code)
	if e := r.instead[f.Code]; e != nil {
		return r.say(f, e[0], e[1:]...)
	}
	switch f.Code {
	case osdp.CmdPoll:
		if len(r.events) > 0 {
			e := r.events[0]
			r.events = r.events[1:]
			return r.say(f, e[0], e[1:]...)
		}
		return r.say(f, osdp.ReplyACK)
	case osdp.CmdID:
		return r.say(f, osdp.ReplyPDID, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3)
	case osdp.CmdCap:
		if r.noAES {
			return r.say(f, osdp.ReplyPDCAP, 1, 1, 2, 8, 1, 0)
		}
		return r.say(f, osdp.ReplyPDCAP, 1, 1, 2, 8, 1, 0, 9, 1, 1)
	case osdp.CmdLStat:
		if !r.noLevels {
			return r.say(f, osdp.ReplyLStat, r.tamper, r.power)
		}
	case osdp.CmdIStat:
		if !r.noLevels {
			return r.say(f, osdp.ReplyIStat, r.inputs...)
		}
	case osdp.CmdOut, osdp.CmdLED, osdp.CmdBuz:
		r.outputs = append(r.outputs, append([]byte{f.Code}, payload...))
		return r.say(f, osdp.ReplyACK)
	case osdp.CmdKeySet:
		if r.up && len(payload) == 18 && payload[0] == 1 && payload[1] == 16 {
			r.key, r.setup = bytes.Clone(payload[2:]), false
			return r.say(f, osdp.ReplyACK)
		}
	case osdp.CmdChlng:
		return r.challenge(f)
	case osdp.CmdSCrypt:
		return r.prove(f)
	}
	return r.say(f, osdp.ReplyNAK, byte(osdp.NAKUnknown))
}

func (r *reader) challenge(f *osdp.Frame) []byte {
	r.up = false
	if r.strict && r.begun {
		return r.say(f, osdp.ReplyNAK, byte(osdp.NAKCondition))
	}
	if r.noAES || len(f.Block) != 2 || f.Block[0] != osdp.BlockChlng {
		return r.say(f, osdp.ReplyNAK, byte(osdp.NAKUnsupported))
	}
	key := r.key
	if f.Block[1] == osdp.KeyDefault {
		key = nil
		if r.setup {
			key = osdp.DefaultKey()
		}
	}
	if key == nil {
		return r.say(f, osdp.ReplyNAK, byte(osdp.NAKCondition))
	}
	r.cp = [8]byte(f.Payload)
	r.pd = [8]byte{1, 2, 3, 4, 5, 6, 7, r.pd[7] + 1}
	r.channel, _ = osdp.NewChannel(key, r.cp[:])
	proof := r.channel.PDCryptogram(r.pd[:])
	payload := append(make([]byte, 8), r.pd[:]...)
	return r.sayBlock(f, osdp.BlockCCrypt, f.Block[1], osdp.ReplyCCrypt, append(payload, proof[:]...))
}

func (r *reader) prove(f *osdp.Frame) []byte {
	if r.channel == nil || len(f.Block) != 2 || f.Block[0] != osdp.BlockSCrypt {
		return r.say(f, osdp.ReplyNAK, byte(osdp.NAKCondition))
	}
	want := r.channel.CPCryptogram(r.pd[:])
	if !bytes.Equal(want[:], f.Payload) {
		return r.say(f, osdp.ReplyNAK, byte(osdp.NAKCondition))
	}
	first := r.channel.Begin(want)
	r.up, r.begun = true, true
	if f.Block[1] == osdp.KeyDefault {
		r.defaults++
	}
	return r.sayBlock(f, osdp.BlockRMACI, osdp.Accepted, osdp.ReplyRMACI, first[:])
}

// say answers, inside the session if the command came inside it.
func (r *reader) say(f *osdp.Frame, code byte, payload ...byte) []byte {
	r.payload = append(r.payload[:0], payload...)
	reply := osdp.Frame{Address: r.address, Reply: true, Control: f.Control, Code: code, Payload: r.payload}
	if f.Secured() && r.up && !r.downcast {
		r.out = r.channel.Seal(r.out[:0], &reply)
	} else {
		r.out = osdp.Append(r.out[:0], &reply)
	}
	return r.out
}

func (r *reader) sayBlock(f *osdp.Frame, block, data, code byte, payload []byte) []byte {
	r.block = [2]byte{block, data}
	r.out = osdp.Append(r.out[:0], &osdp.Frame{Address: r.address, Reply: true, Control: f.Control, Block: r.block[:], Code: code, Payload: payload})
	return r.out
}

// vault is a drivers.Key in memory.
type vault struct {
	keys    [][]byte
	settled int
	err     error // of Propose
	broken  error // the keys cannot be read
}

func (v *vault) Candidates() ([][]byte, error) {
	if v.broken != nil {
		return nil, v.broken
	}
	return v.keys, nil
}

func (v *vault) Withdraw(key []byte) error {
	v.keys = slices.DeleteFunc(v.keys, func(k []byte) bool { return bytes.Equal(k, key) })
	return nil
}

func (v *vault) Propose(key []byte) error {
	if v.err != nil {
		return v.err
	}
	v.keys = append([][]byte{key}, v.keys...)
	return nil
}

func (v *vault) Settle(key []byte) error {
	v.keys = [][]byte{bytes.Clone(key)}
	v.settled++
	return nil
}

// hash stands for the keyed hash: it is not reversed by looking at it.
func hash(credential []byte) string {
	out := make([]byte, len(credential))
	for i, b := range credential {
		out[i] = b ^ 0x55
	}
	return hex.EncodeToString(out)
}

// rig is a driver, its reader and a clock.
type rig struct {
	t      testing.TB
	reader *reader
	vault  *vault
	spec   drivers.Spec
	driver *Driver
	clock  time.Time
	last   map[point.ID]point.Reading
	events []point.Reading
}

func at(space string, n uint32) drivers.Item { return drivers.Item{Space: space, Address: n} }

func doorSpec() drivers.Spec {
	write := func(space string, n uint32, pulse time.Duration) *drivers.Output {
		return &drivers.Output{At: at(space, n), PulseFor: pulse}
	}
	return drivers.Spec{Device: "d", Every: 200 * time.Millisecond, Points: []drivers.PointSpec{
		{ID: "d/card", Role: "card", Kind: point.Text, At: at("card", 0)},
		{ID: "d/pin", Role: "keypad", Kind: point.Text, At: at("keypad", 0)},
		{ID: "d/tamper", Role: "tamper", Kind: point.Bool, At: at("tamper", 0)},
		{ID: "d/power", Role: "mains_lost", Kind: point.Bool, At: at("power", 0)},
		{ID: "d/secure", Role: "state", Kind: point.State, At: at("secure", 0)},
		{ID: "d/lost", Role: "tamper", Kind: point.Bool, At: at("secure_lost", 0)},
		{ID: "d/in0", Kind: point.Bool, At: at("input", 0), Invert: true},
		{ID: "d/in1", Kind: point.Bool, At: at("input", 1)},
		{ID: "d/lock", Role: "relay", Kind: point.Bool, Write: write("output", 0, 0)},
		{ID: "d/strike", Role: "relay", Kind: point.Bool, Write: write("output", 1, 3*time.Second)},
		{ID: "d/led", Role: "indicator", Kind: point.Bool, Write: write("led", 0, 0)},
		{ID: "d/flash", Role: "indicator", Kind: point.Bool, Write: write("led", 0x0101, 2*time.Second)},
		{ID: "d/beep", Role: "buzzer", Kind: point.Bool, Write: write("buzzer", 0, 0)},
		{ID: "d/chirp", Role: "buzzer", Kind: point.Bool, Write: write("buzzer", 0, 300*time.Millisecond)},
	}}
}

func newRig(t testing.TB, r *reader, v *vault, change func(*drivers.Spec)) *rig {
	t.Helper()
	g := &rig{t: t, reader: r, vault: v, spec: doorSpec(), clock: time.Unix(1_000_000, 0), last: make(map[point.ID]point.Reading)}
	if change != nil {
		change(&g.spec)
	}
	g.restart()
	return g
}

// restart is a new life of the gateway.
func (g *rig) restart() {
	g.t.Helper()
	deps := drivers.Deps{
		Link: &drivertest.Script{Otherwise: func(b []byte) []byte { return g.reader.play(b) }},
		Now:  func() time.Time { return g.clock },
		Card: hash,
	}
	if g.vault != nil {
		deps.Key = g.vault
	}
	d, err := New(g.spec, deps)
	if err != nil {
		g.t.Fatal(err)
	}
	g.driver = d.(*Driver)
}

// run polls n times, each a period later, and returns the last error.
func (g *rig) run(n int) (err error) {
	for range n {
		g.clock = g.clock.Add(g.spec.Every)
		err = g.driver.Do(g.t.Context(), 0, g.take)
	}
	return err
}

func (g *rig) take(r point.Reading) {
	if r.Kind == point.Event {
		g.events = append(g.events, r)
		return
	}
	g.last[r.Point] = r
}

// state is the code that the panel told last.
func (g *rig) state() int { return int(g.last["d/secure"].Value.Num) }

func (g *rig) wantState(want int) {
	g.t.Helper()
	if got := g.state(); got != want {
		g.t.Fatalf("state %d, want %d", got, want)
	}
	if got := g.last["d/lost"].Value.On(); got != (want == Fallback) {
		g.t.Fatalf("in state %d the secure session is lost: %v", want, got)
	}
}

// present holds a card to the reader.
func (g *rig) present(bits byte, data ...byte) {
	g.reader.events = append(g.reader.events, append([]byte{osdp.ReplyRaw, 0, 1, bits, 0}, data...))
}

// wantEvents compares what was read since the last call.
func (g *rig) wantEvents(want ...string) {
	g.t.Helper()
	var got []string
	for _, e := range g.events {
		got = append(got, e.Value.Text)
	}
	g.events = nil
	if len(got) != len(want) {
		g.t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != hash([]byte(want[i])) {
			g.t.Errorf("event %d: %s, want that of %s", i, got[i], want[i])
		}
	}
}

func ownKey() []byte { return []byte("0123456789abcdef") }

func secureRig(t testing.TB) *rig {
	t.Helper()
	g := newRig(t, newReader(ownKey()), &vault{keys: [][]byte{ownKey()}}, nil)
	if err := g.run(10); err != nil {
		t.Fatal(err)
	}
	g.wantState(Secure)
	return g
}
