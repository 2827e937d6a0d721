package point

// Unit is a published unit symbol; the empty unit belongs to states and bits.
type Unit string

// The units a point may have. A unit that is not here is refused at load.
const (
	NoUnit      Unit = ""
	PercentLEL  Unit = "%LEL"
	PercentVol  Unit = "%vol"
	PPM         Unit = "ppm"
	PPB         Unit = "ppb"
	MgPerM3     Unit = "mg/m3"
	Celsius     Unit = "Cel"
	PercentRH   Unit = "%RH"
	Volt        Unit = "V"
	Ampere      Unit = "A"
	MilliAmpere Unit = "mA"
	Watt        Unit = "W"
	KiloWatt    Unit = "kW"
	VoltAmpere  Unit = "VA"
	Var         Unit = "var"
	KiloVar     Unit = "kvar"
	KiloWattH   Unit = "kWh"
	WattHour    Unit = "Wh"
	KiloVarH    Unit = "kvarh"
	Hertz       Unit = "Hz"
	Degree      Unit = "deg"
	Metre       Unit = "m"
	Centimetre  Unit = "cm"
	Millimetre  Unit = "mm"
	KiloPascal  Unit = "kPa"
	MegaPascal  Unit = "MPa"
	Pascal      Unit = "Pa"
	Bar         Unit = "bar"
	PicoFarad   Unit = "pF"
	CubicMetre  Unit = "m3"
	Litre       Unit = "L"
	Second      Unit = "s"
	Percent     Unit = "%"
	Ratio       Unit = "1"
)

// Units is the published list.
var Units = []Unit{
	NoUnit, PercentLEL, PercentVol, PPM, PPB, MgPerM3, Celsius, PercentRH, Volt, Ampere, MilliAmpere,
	Watt, KiloWatt, VoltAmpere, Var, KiloVar, KiloWattH, WattHour, KiloVarH, Hertz, Degree, Metre,
	Centimetre, Millimetre, KiloPascal, MegaPascal, Pascal, Bar, PicoFarad, CubicMetre, Litre, Second,
	Percent, Ratio,
}

// KnownUnit reports whether u is on the published list.
func KnownUnit(u Unit) bool {
	for _, k := range Units {
		if k == u {
			return true
		}
	}
	return false
}

// Role is what a point means to a rule, whatever device it comes from.
type Role string

// RoleInfo is what the published list says about a role.
type RoleInfo struct {
	// Kind is the kind of value a point of this role has; None means any.
	Kind Kind
	// Units are the units a rule on this role may be given in; nil means no unit.
	Units []Unit
	// Safety marks points that people's lives hang on: polled first, and an
	// over-range in the alarming direction is an alarm, not a fault.
	Safety bool
	// Low marks a safety role whose low values are dangerous too: below its
	// range may be true. Of the others, only a broken sensor says so.
	Low bool
	// Output marks points that are written, not read.
	Output bool
}

// Roles is the published list. Names are stable: packs, sites and platforms
// refer to them.
var Roles = map[Role]RoleInfo{
	"gas":              {Kind: Number, Units: []Unit{PercentLEL, PercentVol, PPM}, Safety: true},
	"gas_alarm":        {Kind: Bool, Safety: true},
	"detector_state":   {Kind: State, Safety: true},
	"co":               {Kind: Number, Units: []Unit{PPM, MgPerM3}, Safety: true},
	"h2s":              {Kind: Number, Units: []Unit{MgPerM3, PPM}, Safety: true},
	"oxygen":           {Kind: Number, Units: []Unit{PercentVol}, Safety: true, Low: true},
	"septic_methane":   {Kind: Number, Units: []Unit{PercentLEL, PercentVol}, Safety: true},
	"smoke":            {Kind: Bool, Safety: true},
	"sos":              {Kind: Bool, Safety: true},
	"residual_current": {Kind: Number, Units: []Unit{MilliAmpere}, Safety: true},
	"water_leak":       {Kind: Bool},
	"door_contact":     {Kind: Bool},
	"motion":           {Kind: Bool},
	"tamper":           {Kind: Bool},
	"fault":            {Kind: Bool},
	"mains_lost":       {Kind: Bool},
	"card":             {Kind: Text},
	"keypad":           {Kind: Text},
	"temperature":      {Kind: Number, Units: []Unit{Celsius}},
	"cable_temp":       {Kind: Number, Units: []Unit{Celsius}},
	"humidity":         {Kind: Number, Units: []Unit{PercentRH}},
	"level":            {Kind: Number, Units: []Unit{Metre, Centimetre, Millimetre}},
	"pressure":         {Kind: Number, Units: []Unit{Pascal, KiloPascal, MegaPascal, Bar}},
	"voltage":          {Kind: Number, Units: []Unit{Volt}},
	"current":          {Kind: Number, Units: []Unit{Ampere}},
	"active_power":     {Kind: Number, Units: []Unit{Watt, KiloWatt}},
	"apparent_power":   {Kind: Number, Units: []Unit{VoltAmpere}},
	"reactive_power":   {Kind: Number, Units: []Unit{Var, KiloVar}},
	"power_factor":     {Kind: Number, Units: []Unit{Ratio}},
	"phase_angle":      {Kind: Number, Units: []Unit{Degree}},
	"frequency":        {Kind: Number, Units: []Unit{Hertz}},
	"energy":           {Kind: Number, Units: []Unit{KiloWattH, WattHour, KiloVarH}},
	"water_volume":     {Kind: Number, Units: []Unit{CubicMetre, Litre}},
	"siren":            {Kind: Bool, Output: true},
	"relay":            {Kind: Bool, Output: true},
	"buzzer":           {Kind: Bool, Output: true},
	"indicator":        {Kind: Bool, Output: true},
	"input":            {Kind: Bool},
	"measurement":      {Kind: Number, Units: Units},
	"state":            {Kind: State},
}
