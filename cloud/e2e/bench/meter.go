package main

import (
	"sync/atomic"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// meter counts what arrives under a topic.
type meter struct {
	client          mqtt.Client
	messages, bytes atomic.Int64
}

func newMeter(addr, filter string) (*meter, error) {
	c, err := dial(addr, "bench-meter")
	if err != nil {
		return nil, err
	}
	m := &meter{client: c}
	count := func(_ mqtt.Client, msg mqtt.Message) {
		m.messages.Add(1)
		m.bytes.Add(int64(len(msg.Payload())))
	}
	if err := settle(c.Subscribe(filter, 0, count)); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *meter) close() { m.client.Disconnect(100) }
