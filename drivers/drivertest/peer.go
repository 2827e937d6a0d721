package drivertest

import (
	"bufio"
	_ "embed" // the peer's program
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// python is Debian's own: python3-pymodbus belongs to it.
const python = "/usr/bin/python3"

//go:embed pymodbus_peer.py
var pymodbusPeer string

// Tables are the contents of a pymodbus slave: space, address, value.
type Tables map[string]map[int]int

// PymodbusTCP starts an independent Modbus TCP server and returns its address.
func PymodbusTCP(t testing.TB, units map[int]Tables) string {
	t.Helper()
	return "127.0.0.1:" + pymodbus(t, units, "tcp")
}

// PymodbusRTU starts an independent RTU slave on a serial port.
func PymodbusRTU(t testing.TB, units map[int]Tables, port string) {
	t.Helper()
	pymodbus(t, units, port)
}

// pymodbus runs the peer and returns what it says when it is ready.
func pymodbus(t testing.TB, units map[int]Tables, where string) string {
	t.Helper()
	Need(t, python)
	if out, err := exec.Command(python, "-c", "import pymodbus").CombinedOutput(); err != nil {
		t.Logf("%s", out)
		Need(t, "python3-pymodbus")
	}
	tables, err := json.Marshal(units)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", pymodbusPeer, where, string(tables))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	Start(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("pymodbus did not start: %v", err)
	}
	return strings.TrimPrefix(strings.TrimSpace(line), "ready ")
}
