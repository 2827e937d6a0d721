package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs one command line in process.
func command(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = Execute(t.Context(), args, Streams{Out: &o, Err: &e})
	return status, o.String(), e.String()
}

// write puts a configuration into a file of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const wrong = `gateway: {id: gw-0001, division: "5301"}
metric: {listen: 127.0.0.1:9100}
buses:
  - {id: plc, link: "tcp://10.0.0.9:502", framing: tpc}
devices:
  - {id: d1, place: 3/2, bus: plx, address: 1, profile: 4mz-hh4}
`

const right = `gateway: {id: gw-0001, division: "530102001003", compound: 砚峡小区}
buses:
  - {id: plc, link: "tcp://10.0.0.9:502", framing: tcp}
devices:
  - {id: septic-1, place: 化粪池1, bus: plc, address: 1, profile: 4mz-hh4}
`

func TestCheckPrintsEveryErrorWithItsPositionAndExits1(t *testing.T) {
	path := write(t, wrong)
	status, out, _ := command(t, "check", "--config", path)
	if status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	for _, want := range []string{
		path + ":1:", "division", path + ":2:1", "metric", path + ":4:", "framing", path + ":6:", "plx",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
}

func TestCheckAsJSON(t *testing.T) {
	status, out, _ := command(t, "check", "--json", "--config", write(t, wrong))
	var findings []finding
	if err := json.Unmarshal([]byte(out), &findings); err != nil || status != 1 {
		t.Fatalf("status %d, %v", status, err)
	}
	if len(findings) < 4 {
		t.Errorf("%d findings, want every error", len(findings))
	}
	for _, f := range findings {
		if f.Severity != "error" || f.Line == 0 || f.Key == "" || f.What == "" {
			t.Errorf("finding %+v lacks something", f)
		}
	}
}

func TestCheckOfARightConfigExits0(t *testing.T) {
	status, out, errs := command(t, "check", "--config", write(t, right))
	if status != 0 || !strings.Contains(out, "1 devices") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
}

func TestRunOfAWrongConfigPrintsEveryErrorAndExits1(t *testing.T) {
	status, _, errs := command(t, "run", "--config", write(t, wrong))
	if status != 1 || strings.Count(errs, "gateway.yaml:") < 4 {
		t.Errorf("status %d:\n%s", status, errs)
	}
}

func TestWrongCommandLineExits2(t *testing.T) {
	for _, args := range [][]string{{"check", "--confg", "x"}, {"alarms", "ack"}, {"alarms", "bogus"}, {"alarms"}, {"bogus"}, {}, {"alarms", "list", "extra"},
		{"check", "extra"}, {"run", "--log-format", "xml"}} {
		if status, _, errs := command(t, args...); status != 2 || errs == "" {
			t.Errorf("%v: status %d, %q", args, status, errs)
		}
	}
}

func TestWithoutADaemonTheCommandsSayHowToFindIt(t *testing.T) {
	status, _, errs := command(t, "alarms", "list", "--socket", filepath.Join(t.TempDir(), "none.sock"))
	if status != 1 || !strings.Contains(errs, "is it running?") {
		t.Errorf("status %d: %s", status, errs)
	}
}

func TestAFaultInTheConfigDoesNotKeepAGuardFromTheDaemon(t *testing.T) {
	dir := t.TempDir()
	path := write(t, wrong+"store: {dir: "+dir+"}\n")
	status, _, errs := command(t, "alarms", "list", "--config", path)
	if status != 1 || !strings.Contains(errs, filepath.Join(dir, "control.sock")) {
		t.Errorf("status %d: %s, want the socket in %s asked", status, errs, dir)
	}
}

func TestLanguage(t *testing.T) {
	t.Setenv("LC_ALL", "")
	t.Setenv("LC_MESSAGES", "")
	for _, c := range []struct {
		lang, flag string
		english    bool
	}{{"", "", false}, {"zh_CN.UTF-8", "", false}, {"en_US.UTF-8", "", true}, {"en_US.UTF-8", "zh", false}, {"zh_CN.UTF-8", "en", true}} {
		t.Setenv("LANG", c.lang)
		cmd := pointsCommand(Streams{})
		cmd.Flags().String("lang", c.flag, "")
		if got := wordsFor(cmd).english; got != c.english {
			t.Errorf("LANG=%s --lang=%s: english %v, want %v", c.lang, c.flag, got, c.english)
		}
	}
}
