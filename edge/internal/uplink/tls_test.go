package uplink

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes a certificate for 127.0.0.1, signed by itself, and returns
// the paths of certificate and key.
func authority(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "EC PRIVATE KEY", keyDER)
}

func TestBrokerMustShowACertificateOfOurCA(t *testing.T) {
	cert, key := authority(t)
	b := startBroker(t, fmt.Sprintf("allow_anonymous true\ncertfile %s\nkeyfile %s\n", cert, key))
	s := newStore(t)
	good, stop := start(t, Options{Broker: "mqtts://" + b.addr, CAFile: cert, Lanes: s})
	eventually(t, 10*time.Second, "connected", func() bool { return good.State().Connected })
	stop()

	other, _ := authority(t)
	bad, stop := start(t, Options{Broker: "mqtts://" + b.addr, CAFile: other, Lanes: s})
	eventually(t, 10*time.Second, "a stranger is refused", func() bool { return strings.Contains(bad.State().Err, "certificate") })
	stop()

	late := func() time.Time { return time.Now().Add(2 * time.Hour) }
	expired, _ := start(t, Options{Broker: "mqtts://" + b.addr, CAFile: cert, Lanes: s, Now: late})
	eventually(t, 10*time.Second, "an expired certificate is refused at Options.Now", func() bool {
		return strings.Contains(expired.State().Err, "expired")
	})
}

// A box without a battery wakes up in 1970 and must reach the cloud that tells
// it the time.
func TestAnUntrustedClockDoesNotKeepTheGatewayAway(t *testing.T) {
	cert, key := authority(t)
	b := startBroker(t, fmt.Sprintf("allow_anonymous true\ncertfile %s\nkeyfile %s\n", cert, key))
	s := newStore(t)
	woken := func() time.Time { return time.Unix(100, 0) }
	o := Options{Broker: "mqtts://" + b.addr, CAFile: cert, Lanes: s, Now: woken}
	u, stop := start(t, o)
	eventually(t, 10*time.Second, "1970 is before any certificate", func() bool { return strings.Contains(u.State().Err, "not yet valid") })
	stop()
	o.VerifyTime = time.Now
	u, _ = start(t, o)
	eventually(t, 10*time.Second, "connected", func() bool { return u.State().Connected })
}
