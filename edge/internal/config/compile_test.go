package config

import (
	"reflect"
	"slices"
	"testing"

	"gatehouse/drivers"
	profiles "gatehouse/firmware-profiles"
)

// whole is a profile with something in every part that a driver is told of.
func whole() *profiles.Profile {
	one := uint16(1)
	return &profiles.Profile{
		States:   map[string]profiles.StateSet{"own": {1: {Name: "a", Class: "alarm"}}},
		Frame:    &profiles.Frame{Length: &profiles.Length{}, Check: &profiles.Check{}},
		Commands: map[string]profiles.Command{"c": {Steps: []profiles.Step{{}}}},
		Points: []profiles.Point{{
			Name: "p", Role: "relay", Space: "coil", States: "own", Write: &profiles.Write{PulseAddress: &one},
			Decimals: &profiles.Lookup{}, UnitFrom: &profiles.Lookup{},
		}},
	}
}

// parts are the structs of a profile; kept lists the fields that say nothing to
// a driver.
var parts = []struct {
	name string
	of   func(*profiles.Profile) any
	kept []string
}{
	{"Profile", func(p *profiles.Profile) any { return p }, []string{
		"Model", "Maker", "Names", "Source", "Grade", "Driver", "Link", "Confirm", // for people and for loading
		"Timing", // of the bus: TestEachDriverGetsWhatItsDeviceNeeds
		"Probes", "Fingerprint",
		"Variants", // applied before
	}},
	{"Point", func(p *profiles.Profile) any { return &p.Points[0] }, []string{"Names", "Count"}}, // expanded before
	{"Write", func(p *profiles.Profile) any { return p.Points[0].Write }, []string{"PulseMax"}},  // checked at load
	{"Decimals", func(p *profiles.Profile) any { return p.Points[0].Decimals }, nil},
	{"UnitFrom", func(p *profiles.Profile) any { return p.Points[0].UnitFrom }, nil},
	{"Frame", func(p *profiles.Profile) any { return p.Frame }, nil},
	{"Length", func(p *profiles.Profile) any { return p.Frame.Length }, nil},
	{"Check", func(p *profiles.Profile) any { return p.Frame.Check }, nil},
	{"Step", func(p *profiles.Profile) any { return &p.Commands["c"].Steps[0] }, nil},
}

// A field that is added to a profile and forgotten in Compile would be checked,
// documented and without effect.
func TestEveryFieldOfAProfileReachesItsDriver(t *testing.T) {
	compile := func(p *profiles.Profile) drivers.Spec { return Compile(*p, Target{Device: "d"}, nil) }
	plain := compile(whole())
	for _, part := range parts {
		of := reflect.TypeOf(part.of(whole())).Elem()
		for i := range of.NumField() {
			name := of.Field(i).Name
			p := whole()
			set(t, reflect.ValueOf(part.of(p)).Elem().Field(i))
			reaches := !reflect.DeepEqual(compile(p), plain)
			if kept := slices.Contains(part.kept, name); reaches == kept {
				t.Errorf("%s.%s reaches the driver: %v, want %v", part.name, name, reaches, !kept)
			}
		}
	}
}

// And the other way: a field of a point's spec that no profile can set.
func TestEveryFieldOfASpecHasASource(t *testing.T) {
	p := whole()
	at := reflect.ValueOf(&p.Points[0]).Elem()
	for i := range at.NumField() {
		if at.Field(i).IsZero() {
			set(t, at.Field(i))
		}
	}
	p.Points[0].Role = "siren"
	spec := reflect.ValueOf(Compile(*p, Target{Device: "d", Every: 7}, map[string]Override{"p": {Role: "smoke"}}).Points[0])
	for i := range spec.NumField() {
		if spec.Field(i).IsZero() {
			t.Errorf("PointSpec.%s is set by nothing", spec.Type().Field(i).Name)
		}
	}
}

// set gives a field another value than it has.
func set(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		set(t, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			set(t, v.Field(i))
		}
	case reflect.String:
		v.SetString("zz")
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		set(t, v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		set(t, key)
		set(t, value)
		m := reflect.MakeMap(v.Type())
		m.SetMapIndex(key, value)
		v.Set(m)
	default:
		t.Fatalf("no value for a %s", v.Kind())
	}
}
