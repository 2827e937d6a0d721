package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// What the scenario's reader and DTU are set to.
const (
	doorKey   = "8E1A5C0F73B94D26A0D7E21B6F38C954"
	dtuPacket = "DTU-0001"
)

// part is one line of the site, the devices on it, and an alarm that its devices
// raise in the script. What stands in braces is filled in.
type part struct{ bus, devices, rule, what string }

// head is what gateway.yaml says before the lines.
const head = `
gateway: {id: {id}, division: "{division}", compound: 砚峡小区}
store:   {dir: {store}}
metrics: {listen: "127.0.0.1:0"}
cloud:   {broker: "mqtt://{mqtt}", secret_file: secret}
cards:   {key_file: cards.key}
`

// tail is the site's own rule, for the meter.
const tail = `
rules:
  custom:
    - {id: feeds-grid, role: active_power, unit: kW, when: value < 0, priority: P4, title: 向电网送电, title_en: Feeds the grid, source: demo}
`

// parts are the lines of the compound.
var parts = []part{
	{
		bus: `{id: plant, link: "tcp://{plant}", framing: tcp}`,
		devices: `
  - {id: di-3-2, name: 3栋2单元弱电箱, place: 3/2, bus: plant, address: 7, profile: waveshare-relay-d, poll: 500ms,
     points: {di1: {role: gas_alarm, place: 3/2/501, name: 501厨房燃气报警器, contact: nc},
              relay1: {role: siren, name: 3栋声光报警器, pulse: 10s}}}
  - {id: septic-1, name: 1号化粪池, place: 化粪池1, bus: plant, address: 11, profile: 4mz-hh4, poll: 1s}`,
		rule: gasRule, what: "gas contact, Modbus TCP",
	},
	{
		bus: `{id: meters, link: "serial:{meters}?baud=9600"}`,
		devices: `
  - {id: meter-1, name: 电梯电表, place: 3/2, bus: meters, address: 1, profile: eastron-sdm120, poll: 2s}
  - {id: sos-3-2, name: 3栋2单元紧急按钮, place: 3/2, bus: meters, address: 2, profile: wellpro-wp8026, poll: 500ms,
     points: {di1: {role: sos, place: 3/2/502, name: 502卧室紧急按钮}}}`,
		rule: "sos", what: "SOS button, Modbus RTU on a serial line",
	},
	{
		bus: `{id: pump, link: "tcp-listen://{pump}?register={packet}&baud=9600", framing: rtu}`,
		devices: `
  - {id: di-pump, name: 水泵房开关量模块, place: 水泵房, bus: pump, address: 1, profile: wellpro-wp8026, poll: 1s,
     points: {di1: {role: water_leak, name: 水泵房水浸}}}
  - {id: breaker-pump, name: 水泵断路器, place: 水泵房, bus: pump, address: 2, profile: jialan-breaker,
     confirmed: {by: 演示, on: 2026-11-23, source: the simulated breaker}}`,
		rule: "water-leak", what: "leak sensor, behind a DTU that dials in",
	},
	{
		bus: `{id: door, link: "serial:{door}?baud=9600"}`,
		devices: `
  - {id: door-gate, name: 南门门禁, place: 南门, bus: door, address: 0, profile: osdp-reader, key_file: door.key}`,
		rule: "tamper", what: "door reader that is opened, OSDP secure channel",
	},
	{
		bus: `{id: boiler, link: "serial:{boiler}?baud=9600"}`,
		devices: `
  - {id: gas-boiler, name: 锅炉房四合一气体模块, place: 锅炉房, bus: boiler, profile: gas-4in1-uart,
     points: {ch4: {role: gas}}}`,
		rule: "co-high", what: "carbon monoxide, 4-in-1 gas module",
	},
	{
		bus: `{id: power, link: "serial:{power}?baud=2400&parity=even"}`,
		devices: `
  - {id: meter-3-2, name: 3栋2单元总电表, place: 3/2, bus: power, meter: "000012345678", profile: dlt645-meter-1ph, poll: 2s}`,
		rule: "feeds-grid", what: "power that flows backwards, DL/T 645 meter",
	},
}

// config is gateway.yaml.
func config() string {
	var buses, devices strings.Builder
	for _, p := range parts {
		buses.WriteString("\n  - " + p.bus)
		devices.WriteString(p.devices)
	}
	return head + "buses:" + buses.String() + "\ndevices:" + devices.String() + tail
}

// writeConfig writes gateway.yaml and the files it names into dir.
func (s *stage) writeConfig(store, secret string) error {
	fill := strings.NewReplacer(
		"{id}", gatewayID, "{division}", division, "{store}", store, "{mqtt}", s.mqtt,
		"{plant}", s.at["plant"], "{meters}", s.at["meters"], "{door}", s.at["door"], "{power}", s.at["power"],
		"{boiler}", s.at["boiler"], "{pump}", s.at["pump"], "{packet}", hex.EncodeToString([]byte(dtuPacket)),
	)
	var errs []error
	for name, content := range map[string]string{
		"gateway.yaml": fill.Replace(config()), "secret": secret, "door.key": doorKey,
		"cards.key": strings.Repeat("this is a demonstration ", 2),
	} {
		errs = append(errs, os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write the gateway's files: %w", err)
	}
	return nil
}
