package main

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// tally knows which values of which polls have arrived: each register shows
// the number of the poll, so a value that is lost, doubled or changed is seen.
type tally struct {
	registers int
	polls     map[[2]int]map[uint64]uint32 // connection, unit -> poll -> a bit for each register
	alien     int                          // values that no poll can have shown
}

func newTally(registers int) *tally {
	return &tally{registers: registers, polls: make(map[[2]int]map[uint64]uint32)}
}

// deviceID and pointName are what the configuration calls things; parseDevice
// is the inverse of the first.
func deviceID(conn, unit int) string { return fmt.Sprintf("d-%d-%d", conn, unit) }

func pointName(n int) string { return "r" + strconv.Itoa(n) } // the profile's row of registers: r1 to r20

func parseDevice(id string) (conn, unit int, err error) {
	if _, err = fmt.Sscanf(id, "d-%d-%d", &conn, &unit); err != nil || deviceID(conn, unit) != id {
		return 0, 0, fmt.Errorf("device %q is not of this bench", id)
	}
	return conn, unit, nil
}

func (t *tally) add(tel wire.Telemetry) error {
	conn, unit, err := parseDevice(tel.Device)
	if err != nil {
		return err
	}
	key := [2]int{conn, unit}
	polls := t.polls[key]
	if polls == nil {
		polls = make(map[uint64]uint32)
		t.polls[key] = polls
	}
	for _, c := range tel.Columns {
		n, err := strconv.Atoi(strings.TrimPrefix(c.Point, "r"))
		if err != nil || n < 1 || n > t.registers {
			return fmt.Errorf("point %q is not of this bench", c.Point)
		}
		for i, v := range c.Nums {
			poll := uint64(v) - uint64(n-1)*columnStep
			bit := uint32(1) << (n - 1)
			switch {
			case c.Qualities != nil && c.Qualities[i] != point.Good: // vouched for by nobody: has not arrived
			case n == 1 && v == highValue: // the alarm hides the number of the poll
			case v != float64(uint64(v)) || poll == 0 || poll >= countLimit || polls[poll]&bit != 0:
				t.alien++
			default:
				polls[poll] |= bit
			}
		}
	}
	return nil
}

// missing counts the values of polls in (since, upTo] that have not arrived.
func (t *tally) missing(since, upTo [][unitsPerConn]uint64) int {
	missing := 0
	for c := range upTo {
		for u := range upTo[c] {
			polls := t.polls[[2]int{c, u + 1}]
			for n := since[c][u] + 1; n <= upTo[c][u]; n++ {
				missing += t.registers - bits.OnesCount32(polls[n])
			}
		}
	}
	return missing
}
