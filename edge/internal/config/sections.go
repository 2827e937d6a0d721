package config

import (
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"gatehouse/protocol/wire"
)

// division is a 12-digit statistical division code (统计用区划代码).
var division = regexp.MustCompile(`^[0-9]{12}$`)

func (l *loader) gateway() {
	g := l.cfg.Gateway
	if l.required("gateway.id", g.ID, "give the id under which the cloud knows this box") && !wire.ValidGatewayID(g.ID) {
		l.Fail("gateway.id", "use 1 to 64 letters, digits, '_' or '-'", "%q is no gateway id", g.ID)
	}
	if l.required("gateway.division", g.Division, "give the 12-digit division code of the community") && !division.MatchString(g.Division) {
		l.Fail("gateway.division", `write the 12 digits in quotes, such as "530102001003"`, "%q is no division code", g.Division)
	}
	zone, err := time.LoadLocation(g.Timezone)
	if err != nil || g.Timezone == "Local" {
		l.Fail("gateway.timezone", "use a name such as Asia/Shanghai", "unknown time zone %q", g.Timezone)
		return
	}
	l.plan.Location = zone
}

func (l *loader) cloud() {
	c := &l.cfg.Cloud
	if c.Flush < time.Second || c.Flush > 10*time.Minute {
		l.Fail("cloud.flush", "use 1s to 10m", "%v is out of range", c.Flush)
	}
	if c.Heartbeat < 10*time.Second || c.Heartbeat > time.Hour {
		l.Fail("cloud.heartbeat", "use 10s to 1h", "%v is out of range", c.Heartbeat)
	}
	if c.Broker == "" {
		if l.Has("cloud") {
			l.required("cloud.broker", "", "write mqtts://HOST:8883, or remove the section to run without a cloud")
		}
		return
	}
	l.broker()
	if l.required("cloud.secret_file", c.SecretFile, "name the file with the secret that gateway add printed") {
		l.plan.Secret = l.secret("cloud.secret_file", c.SecretFile)
		c.SecretFile = l.path(c.SecretFile)
	}
	if c.CAFile != "" {
		c.CAFile = l.path(c.CAFile)
		if pem, _, err := l.read(c.CAFile); err != nil {
			l.Fail("cloud.ca_file", "name a readable file", "%v", err)
		} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			l.Fail("cloud.ca_file", "write the CA's certificate as PEM", "holds no certificate")
		}
	}
}

// broker checks the address and that no password crosses a network in clear
// unless someone wrote that it may.
func (l *loader) broker() {
	const key, hint = "cloud.broker", "write mqtts://HOST:8883"
	c := l.cfg.Cloud
	u, err := url.Parse(c.Broker)
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		l.Fail(key, hint, "is no broker address") // not repeated: it may hold a password
		return
	}
	if u.User != nil {
		l.Fail(key, "the gateway's id and secret_file are its credentials: remove the part before @", "carries credentials")
	}
	if !validPort(u.Port()) {
		l.Fail(key, "add it: mqtts://"+u.Hostname()+":8883", "has no port")
	}
	switch {
	case u.Scheme == "mqtts":
	case u.Scheme != "mqtt":
		l.Fail(key, hint, "unknown scheme %q", u.Scheme)
	case !loopback(u.Hostname()) && !c.Plain:
		l.Fail(key, "use mqtts://, or set allow_plaintext: true in a network that you trust", "would send the secret in clear")
	}
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func (l *loader) listeners() {
	if l.cfg.Web.Listen != "" {
		l.listen("web.listen", l.cfg.Web.Listen)
	}
	l.listen("metrics.listen", l.cfg.Metrics.Listen)
	if q := l.cfg.Store.Quota; q != 0 && q < 64<<20 {
		l.Fail("store.quota", "use 64MiB or more, or leave it out", "%d bytes are too few", q)
	}
}

// listen checks HOST:PORT; port 0 means any free one.
func (l *loader) listen(key, address string) {
	host, port, err := net.SplitHostPort(address)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
		l.Fail(key, "write HOST:PORT, such as 127.0.0.1:9100", "%q is no address to listen on", address)
		return
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		l.warn(key, "keep it on 127.0.0.1 unless the network behind it is yours alone", "is open to everybody who reaches %s", address)
	}
}
