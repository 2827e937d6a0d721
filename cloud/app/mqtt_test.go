package app

import (
	"net"
	"net/url"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gatehouse/protocol/wire"
)

// TestMQTTFeaturesAreNoWayAround: what MQTT can do beyond a plain publish
// obeys the same rules.
func TestMQTTFeaturesAreNoWayAround(t *testing.T) {
	s := startService(t, t.TempDir())
	secret := addGateway(t, s.data, "gw-1")
	other := addGateway(t, s.data, "gw-2")
	bearer := createToken(t, s.data, "53", "*")

	// A will is published by the server when its client dies. The foreign one
	// goes first, so that once the own one is there it would be too.
	for _, topicOf := range []string{"gw-2", "gw-1"} {
		var line net.Conn
		opts := mqttOptions(s.MQTT, "gw-1", "gw-1", secret).
			SetBinaryWill(wire.Topic(topicOf, wire.LaneAlarm), pack(t, alarms(t, topicOf, "will", 1, 1)), 0, false).
			SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (c net.Conn, err error) {
				line, err = net.Dial("tcp", s.MQTT)
				return line, err
			})
		dying := mqtt.NewClient(opts)
		done(t, dying.Connect())
		_ = line.Close() // without a goodbye
		await(t, "the server to notice", func() bool { return s.metric("gatehouse_gateways_online") == "0" })
	}
	await(t, "the own will", func() bool { return len(s.get(bearer, "").events) > 0 })

	b := connect(t, s.MQTT, "gw-1", secret)
	for qos := range byte(2) { // QoS 1 is not needed, but does no harm
		seq := uint64(qos) + 1
		done(t, b.mqtt.Publish(wire.Topic("gw-1", wire.LaneAlarm), qos, qos == 1, pack(t, alarms(t, "gw-1", "e1", seq, seq))))
		if a := b.ack(); a.UpTo != seq {
			t.Fatalf("QoS %d: ack %+v", qos, a)
		}
	}
	two := connect(t, s.MQTT, "gw-2", other)
	two.send(alarms(t, "gw-2", "e1", 1, 1))
	if a := two.ack(); a.Epoch != "e1" {
		t.Fatalf("gw-2: ack %+v", a)
	}
	for _, e := range s.pull(bearer, "", 100) {
		if e["epoch"] == "will" && e["source"] != "gw-1" {
			t.Errorf("gw-1's will was taken for another's: %v", e)
		}
	}
}

func TestNothingIsKeptForWhoNeverReleasesIt(t *testing.T) {
	s := startService(t, t.TempDir())
	b := connect(t, s.MQTT, "gw-1", addGateway(t, s.data, "gw-1"))
	b.mqtt.Publish(wire.Topic("gw-1", wire.LaneMedia), 2, false, pack(t, alarms(t, "gw-1", "e1", 1, 1)))
	await(t, "a publish at QoS 2 to end the connection", func() bool { return !b.mqtt.IsConnected() })
}
