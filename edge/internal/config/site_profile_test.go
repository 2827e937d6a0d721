package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"
)

const siteProfile = `model: leak
maker: none
names: {zh: 漏水, en: Leak}
source: bench reading
grade: B
driver: modbus
link: {baud: 9600, parity: none, stop: 1, address: 1}
timing: {poll: 1s}
points:
  - {name: leak, names: {zh: 漏水, en: Leak}, role: water_leak, space: input, address: 0, states: %s}
`

const siteConfig = `gateway: {id: gw-0001, division: "530102001003", compound: 砚峡小区}
buses: [{id: plc, link: "tcp://10.0.0.9:502", framing: tcp}]
devices: [{id: leak-1, place: 水泵房, bus: plc, address: 1, profile: %s}]
`

// reading returns the one file there is.
func reading(name, content string) ReadFile {
	return func(path string) ([]byte, fs.FileMode, error) {
		if strings.HasSuffix(path, name) {
			return []byte(content), 0o600, nil
		}
		return nil, 0, fs.ErrNotExist
	}
}

func TestASiteMayBringAProfileOfItsOwn(t *testing.T) {
	profile := strings.Replace(siteProfile, ", states: %s", "", 1)
	plan, err := Parse("gateway.yaml", fmt.Appendf(nil, siteConfig, "own/leak.yaml"), reading("own/leak.yaml", profile))
	if err != nil {
		t.Fatal(err)
	}
	if p := plan.Points["leak-1/leak"]; p.Role != "water_leak" || p.Every != time.Second {
		t.Errorf("point = %+v", p)
	}
}

func TestAFaultOfASitesProfileIsReportedInItsFile(t *testing.T) {
	_, err := Parse("gateway.yaml", fmt.Appendf(nil, siteConfig, "own/leak.yaml"), reading("own/leak.yaml", siteProfile))
	var problems Errors
	if !errors.As(err, &problems) || !strings.HasSuffix(problems[0].File, "own/leak.yaml") || problems[0].Line == 0 {
		t.Errorf("err = %v, want a problem in own/leak.yaml", err)
	}
	_, err = Parse("gateway.yaml", fmt.Appendf(nil, siteConfig, "own/none.yaml"), reading("own/leak.yaml", siteProfile))
	if !errors.As(err, &problems) || problems[0].Key != "devices[0].profile" || problems[0].Hint == "" {
		t.Errorf("err = %v, want a problem of devices[0].profile with a hint", err)
	}
}

// A device that talks unasked tells an alarm when it happens: how seldom it
// must speak says nothing of how late an alarm is.
func TestUnaskedSafetyIsNotCalledSlow(t *testing.T) {
	const profile = `model: leak
maker: none
names: {zh: 报警器, en: Alarm}
source: bench reading
grade: B
driver: lineframe
link: {baud: 9600, parity: none, stop: 1}
timing: {offline: 10m}
frame: {start: AA, size: 4, check: {kind: sum8, from: 0, until: -1, at: -1}}
points:
  - {name: gas, names: {zh: 燃气, en: Gas}, role: gas_alarm, space: frame, address: 1, type: u8, active: 2, inactive: 1}
`
	text := strings.NewReplacer("framing: tcp", "framing: rtu", ", address: 1", "").Replace(fmt.Sprintf(siteConfig, "own/leak.yaml"))
	plan, err := Parse("gateway.yaml", []byte(text), reading("own/leak.yaml", profile))
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Warnings) != 0 {
		t.Errorf("warnings %v", plan.Warnings)
	}
	if d := plan.Buses[0].Devices[0]; d.Offline != 10*time.Minute || !d.Spec.Points[0].Critical {
		t.Errorf("%+v", d)
	}
}
