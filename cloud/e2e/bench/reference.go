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
// the values as JSON. It has no rules, no store, no ack and no retry.
func runReference(ctx context.Context, args []string) error {
	f := flag.NewFlagSet(referenceCommand, flag.ContinueOnError)
	broker := f.String("broker", "", "host:port")
	devices := f.String("devices", "", "host:port of each connection, by commas")
	every := f.Duration("every", time.Second, "poll period")
	if err := f.Parse(args); err != nil {
		return err
	}
	client, err := dial(*broker, "bench-reference")
	if err != nil {
		return err
	}
	defer client.Disconnect(100)
	var wg sync.WaitGroup
	for c, addr := range strings.Split(*devices, ",") {
		wg.Go(func() {
			if err := pollLoop(ctx, client, c, addr, *every); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, addr, err)
			}
		})
	}
	wg.Wait()
	return nil
}

// referenceMessage is one poll.
type referenceMessage struct {
	Device string    `json:"device"`
	Time   time.Time `json:"time"`
	Values []uint16  `json:"values"`
}

func pollLoop(ctx context.Context, client mqtt.Client, conn int, addr string, every time.Duration) error {
	h := modbus.NewTCPClientHandler(addr)
	h.Timeout = time.Second
	defer h.Close()
	slave := modbus.NewClient(h)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for unit := 1; unit <= unitsPerConn; unit++ {
			h.SlaveId = byte(unit)
			p, err := slave.ReadHoldingRegisters(0, registers)
			if err != nil {
				return err
			}
			m := referenceMessage{Device: deviceID(conn, unit), Time: time.Now(), Values: make([]uint16, registers)}
			for i := range m.Values {
				m.Values[i] = binary.BigEndian.Uint16(p[2*i:])
			}
			text, err := json.Marshal(m)
			if err != nil {
				return err
			}
			if t := client.Publish("bench/"+m.Device, 0, false, text); !t.WaitTimeout(5*time.Second) || t.Error() != nil {
				return errors.Join(errors.New("publish"), t.Error())
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// startReference runs the reference as a child.
func startReference(dir, broker string, addresses []string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(dir, "reference", self, referenceCommand, "-broker", broker, "-devices", strings.Join(addresses, ","))
}
