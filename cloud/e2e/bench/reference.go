package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/goburrow/modbus"
)

// referenceCommand makes the bench's own binary the reference, in a process of
// its own that can be measured like the daemon.
const referenceCommand = "reference"

// runReference is the least a gateway can do: for every connection a loop with
// goburrow's stock client that reads each slave once a second and publishes
// the values as JSON. It has no rules, no store, no ack and no retry. As such a
// loop is mostly written, all connections begin their round at the same moment;
// that is cheap, since one wake-up then serves many answers. With -spread every
// slave has a moment of its own within the second.
func runReference(ctx context.Context, args []string) error {
	f := flag.NewFlagSet(referenceCommand, flag.ContinueOnError)
	broker := f.String("broker", "", "host:port")
	devices := f.String("devices", "", "host:port of each connection, by commas")
	every := f.Duration("every", time.Second, "poll period")
	registers := f.Int("registers", registers, "registers of each slave")
	rtu := f.String("rtu", "", "read slaves on this serial port instead, without a pause, and publish nothing")
	spread := f.Bool("spread", false, "spread the polls over the period")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *rtu != "" {
		return rtuReference(ctx, *rtu, *registers)
	}
	client, err := dial(*broker, "bench-reference")
	if err != nil {
		return err
	}
	defer client.Disconnect(100)
	addresses := strings.Split(*devices, ",")
	var wg sync.WaitGroup
	begun := time.Now()
	for c, addr := range addresses {
		l := pollLoop{client: client, conn: c, addr: addr, registers: *registers, every: *every, begun: begun}
		if *spread {
			l.step = *every / unitsPerConn
			l.begun = begun.Add(l.step * time.Duration(c) / time.Duration(len(addresses)))
		}
		wg.Go(func() {
			if err := l.run(ctx); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, addr, err)
			}
		})
	}
	wg.Wait()
	return nil
}

// referenceMessage is one poll, its values by name: what a reader of the topic
// needs.
type referenceMessage struct {
	Device string             `json:"device"`
	Time   time.Time          `json:"time"`
	Values map[string]float64 `json:"values"`
}

// pollLoop polls the slaves of one connection, one after the other.
type pollLoop struct {
	client    mqtt.Client
	conn      int
	addr      string
	registers int
	every     time.Duration
	step      time.Duration // from one slave to the next
	begun     time.Time     // when the first poll is due
}

func (l *pollLoop) run(ctx context.Context) error {
	h := modbus.NewTCPClientHandler(l.addr)
	h.Timeout = time.Second
	defer h.Close()
	slave := modbus.NewClient(h)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for round := time.Duration(0); ; round++ {
		for unit := 1; unit <= unitsPerConn; unit++ {
			timer.Reset(time.Until(l.begun.Add(round*l.every + time.Duration(unit-1)*l.step)))
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
			h.SlaveId = byte(unit)
			p, err := slave.ReadHoldingRegisters(0, uint16(l.registers))
			if err != nil {
				return err
			}
			if err := l.publish(unit, p); err != nil {
				return err
			}
		}
	}
}

func (l *pollLoop) publish(unit int, p []byte) error {
	m := referenceMessage{Device: deviceID(l.conn, unit), Time: time.Now(), Values: make(map[string]float64, l.registers)}
	for i := range l.registers {
		m.Values[pointName(i+1)] = float64(binary.BigEndian.Uint16(p[2*i:]))
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if t := l.client.Publish("bench/"+m.Device, 0, false, text); !t.WaitTimeout(5*time.Second) || t.Error() != nil {
		return errors.Join(errors.New("publish"), t.Error())
	}
	return nil
}

// startReference runs the reference as a child.
func startReference(dir string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(dir, "reference", self, append([]string{referenceCommand}, args...)...)
}
