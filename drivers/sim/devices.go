package sim

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// device is what a scenario can do to whatever hangs on a line.
type device interface {
	SetFault(Fault)
	SetSilent(bool)
	Requests() uint64
	// setValue and value know the device's state by name.
	setValue(name string, v float64) error
	value(name string) (float64, error)
}

// ReaderUnit is an OSDP reader of a scenario; its name is listener/id.
type ReaderUnit struct {
	Listener string `yaml:"listener"`
	ID       uint8  `yaml:"id"`
	About    string `yaml:"about"`
	Serial   uint32 `yaml:"serial"`
	Inputs   int    `yaml:"inputs"`
	Outputs  int    `yaml:"outputs"`
	Key      string `yaml:"key"` // 32 hexadecimal digits
	Install  bool   `yaml:"install"`
	Secure   bool   `yaml:"secure"`
	Plain    bool   `yaml:"plain"`
	Checksum bool   `yaml:"checksum"`
}

func (u *ReaderUnit) build() (*Reader, error) {
	key, err := hex.DecodeString(u.Key)
	if err != nil {
		return nil, errors.New("key: want 32 hexadecimal digits")
	}
	if len(key) == 0 {
		key = nil
	}
	return NewReader(ReaderOptions{
		Address: u.ID, Serial: u.Serial, Inputs: u.Inputs, Outputs: u.Outputs, Key: key,
		Install: u.Install, Secure: u.Secure, Plain: u.Plain, Checksum: u.Checksum,
	})
}

// MeterUnit is a DL/T 645 meter of a scenario; its name is listener/id.
type MeterUnit struct {
	Listener string             `yaml:"listener"`
	ID       string             `yaml:"id"` // 12 digits
	About    string             `yaml:"about"`
	Preamble int                `yaml:"preamble"`
	Frame    int                `yaml:"frame"`
	Values   map[string]float64 `yaml:"values"`
}

func (u *MeterUnit) build() (*Meter, error) {
	return NewMeter(MeterOptions{Address: u.ID, Preamble: u.Preamble, Frame: u.Frame, Values: u.Values})
}

// GasUnit is a 4-in-1 gas module of a scenario; its name is its listener's.
type GasUnit struct {
	Listener string             `yaml:"listener"`
	About    string             `yaml:"about"`
	Values   map[string]float64 `yaml:"values"`
}

// TextUnit is a text reader of a scenario; its name is its listener's.
type TextUnit struct {
	Listener string `yaml:"listener"`
	About    string `yaml:"about"`
	Start    string `yaml:"start"`
	End      string `yaml:"end"`
}

// placed is a device with where it hangs and where it stands in the file.
type placed struct {
	name, listener, at string
	device             interface {
		device
		Device
	}
}

// others builds every device of the scenario that is no Modbus unit. What could
// not be built is left out, and each fault is told to fail.
func (sc *Scenario) others(fail func(at string, err error)) []placed {
	var out []placed
	add := func(name, listener, at string, d interface {
		device
		Device
	}, err error) {
		if err != nil {
			fail(at, err)
			return
		}
		out = append(out, placed{name, listener, at, d})
	}
	for i := range sc.Readers {
		u := &sc.Readers[i]
		d, err := u.build()
		add(unitName(u.Listener, u.ID), u.Listener, fmt.Sprintf("$.readers[%d]", i), d, err)
	}
	for i := range sc.Meters {
		u := &sc.Meters[i]
		d, err := u.build()
		add(u.Listener+"/"+u.ID, u.Listener, fmt.Sprintf("$.meters[%d]", i), d, err)
	}
	for i, u := range sc.GasModules {
		d, err := NewGasModule(u.Values)
		add(u.Listener, u.Listener, fmt.Sprintf("$.gas_modules[%d]", i), d, err)
	}
	for i, u := range sc.TextReaders {
		add(u.Listener, u.Listener, fmt.Sprintf("$.text_readers[%d]", i), NewTextReader(u.Start, u.End), nil)
	}
	return out
}

// apply makes the change c. Load has proved that the device can do it.
func apply(d device, c Change) {
	if c.Silent != nil {
		d.SetSilent(*c.Silent)
	}
	if c.Fault != nil {
		d.SetFault(*c.Fault)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Values)) {
		_ = d.setValue(name, c.Values[name])
	}
	switch d := d.(type) {
	case *unit:
		d.assign(c.Set)
	case *Reader:
		if c.Card != nil {
			d.Present(*c.Card)
		}
		if c.Keys != "" {
			d.Type(c.Keys)
		}
	case *TextReader:
		if c.Text != "" {
			d.Send(c.Text)
		}
	}
}

// able reports what of a step a device cannot do.
func able(d device, s *Step) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Values)) {
		_, err := d.value(name)
		if err == nil {
			err = d.setValue(name, s.Values[name])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("values: %w", err))
		}
	}
	_, isReader := d.(*Reader)
	if (s.Card != nil || s.Keys != "") && !isReader {
		errs = append(errs, errors.New("card and keys are for readers"))
	}
	if len(s.Keys) > 16 {
		errs = append(errs, fmt.Errorf("keys: %d at once, at most 16", len(s.Keys)))
	}
	if s.Card != nil {
		_, err := s.Card.Card()
		errs = append(errs, err)
	}
	if s.Text != "" {
		if t, ok := d.(*TextReader); ok {
			errs = append(errs, t.checkText(s.Text))
		} else {
			errs = append(errs, errors.New("text is for text readers"))
		}
	}
	if f := s.Fault; f != nil && (f.Late < 0 || f.Requests < 0 || *f == Fault{Requests: f.Requests}) {
		errs = append(errs, errors.New("fault: want at least one of silent, lost, late, twice, as, refuse, busy and clear"))
	}
	return errors.Join(errs...)
}
