package lineframe

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/internal/meaning"
	"gatehouse/protocol/lineframe"
	"gatehouse/protocol/point"
)

// check reports every fault of a spec at once, or returns its codec.
func check(spec drivers.Spec, deps drivers.Deps) (*lineframe.Codec, error) {
	errs := meaning.CheckSpec(spec)
	if spec.Framing == drivers.TCP {
		errs = append(errs, errors.New("framing tcp: that is Modbus TCP; this device speaks through a transparent serial server"))
	}
	reach, secrets := 0, false
	for i := range spec.Points {
		p := &spec.Points[i]
		for _, err := range checkPoint(spec, p) {
			errs = append(errs, fmt.Errorf("point %s: %w", p.ID, err))
		}
		if p.At.Address < lineframe.Longest {
			reach = max(reach, int(p.At.Address)+size(p))
		}
		secrets = secrets || credential(p)
	}
	if secrets && deps.Card == nil {
		errs = append(errs, errors.New("cards and codes: nothing to hash them with"))
	}
	var codec *lineframe.Codec
	if spec.Frame == nil {
		errs = append(errs, errors.New("frame: nothing says what one looks like"))
	} else {
		var err error
		if codec, err = newCodec(spec, reach); err != nil {
			errs = append(errs, fmt.Errorf("frame: %w", err))
		}
	}
	for i, err := range errs {
		errs[i] = fmt.Errorf("lineframe device %s: %w", spec.Device, err)
	}
	return codec, errors.Join(errs...)
}

// newCodec builds the codec of frames that are long enough for every point.
func newCodec(spec drivers.Spec, reach int) (*lineframe.Codec, error) {
	f := spec.Frame
	format := lineframe.Format{
		Start: f.Start, End: f.End, Size: f.Size, Max: f.Max, Reach: reach,
		Check: lineframe.Check{Kind: lineframe.Kind(f.Check.Kind), From: f.Check.From, Until: f.Check.Until, At: f.Check.At},
	}
	if l := f.Length; l != nil {
		format.Length = &lineframe.Length{At: l.At, Size: l.Size, Little: l.Little, Add: l.Add}
	}
	var errs []error
	if len(f.Request) > lineframe.Longest {
		errs = append(errs, fmt.Errorf("request of %d bytes: want at most %d", len(f.Request), lineframe.Longest))
	}
	if len(f.Request) == 0 && !format.Sealed() {
		// Half a frame and half of the next would be a card that nobody holds.
		errs = append(errs, errors.New("end: nothing tells a whole frame of a device that talks unasked; give its end bytes or its check value"))
	}
	codec, err := lineframe.New(format)
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	// A point that goes up to the end must begin before it.
	for i := range spec.Points {
		if p := &spec.Points[i]; size(p) == 0 && p.At.Address < lineframe.Longest {
			format.Reach = max(format.Reach, int(p.At.Address)+codec.Tail())
		}
	}
	return lineframe.New(format)
}

func checkPoint(spec drivers.Spec, p *drivers.PointSpec) []error {
	errs := meaning.Check(p)
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.At.Space != "frame" {
		fail("space %q: want frame", p.At.Space)
	}
	if p.At.Address >= lineframe.Longest {
		fail("offset %d: a frame has at most %d bytes", p.At.Address, lineframe.Longest)
	}
	f, known := forms[p.Type]
	unasked := spec.Frame != nil && len(spec.Frame.Request) == 0
	switch {
	case !known:
		fail("type %q: want u8, s8, u16, s16, u32, s32, f32, bcd, text, hex or decimal", p.Type)
		return errs
	case f.size > 0 && p.Size != 0 && p.Size != f.size:
		fail("size %d: a %s has %d", p.Size, p.Type, f.size)
	case p.Size > lineframe.Longest:
		fail("size %d: a frame has at most %d bytes", p.Size, lineframe.Longest)
	case f.class == 'd' && !credential(p) && (p.Size < 1 || p.Size > 8):
		fail("size %d: want 1 to 8 bytes of digits", p.Size)
	}
	if !unasked && period(spec, p) <= 0 {
		fail("no poll period: give the point or the device one")
	}
	if unasked && p.MaxStep != nil {
		fail("max_step: a device that talks unasked cannot be asked again")
	}
	if s := meaning.Status(spec, p); p.StatusOf != "" && s == nil {
		fail("status_of %q: the device has no state point of that name", p.StatusOf)
	}
	if credential(p) {
		return append(errs, checkCredential(p, f, unasked)...)
	}
	return append(errs, checkLevel(p, f)...)
}

// checkLevel checks what is true until changed.
func checkLevel(p *drivers.PointSpec, f form) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if (p.Kind == point.Text) != (f.class == 't') {
		fail("type %s: a text is read as text, and nothing else is", p.Type)
	}
	if f.class == 'f' && p.Kind != point.Number {
		fail("type %s: a bool or state is a whole number", p.Type)
	}
	if p.Bits == 0 {
		return errs
	}
	switch f.class {
	case 'f', 't', 'D':
		fail("bits: cannot be picked from type %s", p.Type)
	case 'H': // as wide as its digits
	default:
		if n := bits.Len64(p.Bits); n > 8*size(p) {
			fail("bits 0x%X: bit %d is outside %d bytes", p.Bits, n-1, size(p))
		}
	}
	return errs
}

// checkCredential checks a card or a code: an occurrence, and a secret.
func checkCredential(p *drivers.PointSpec, f form, unasked bool) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !unasked {
		fail("role %s: it happens once, and would be read again with every answer; only a device that talks unasked can report it", p.Role)
	}
	if p.Kind != point.Text {
		fail("kind %d: a card or a code is a text", p.Kind)
	}
	if p.Bits != 0 || len(p.Sentinels) > 0 || p.StatusOf != "" {
		fail("bits, sentinels and status_of: not of a card or a code")
	}
	switch {
	case p.Role == "keypad" && f.class != 't' && f.class != 'D':
		fail("type %s: a typed code is text or decimal", p.Type)
	case f.class == 's' || f.class == 'f':
		fail("type %s: a card is hex or decimal digits, or the bytes of its number", p.Type)
	}
	return errs
}

// period is how often a point is read.
func period(spec drivers.Spec, p *drivers.PointSpec) time.Duration {
	if p.Every > 0 {
		return p.Every
	}
	return spec.Every
}
