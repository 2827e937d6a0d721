package config

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

func TestAReaderKeyFileHoldsKeysThatAreSecret(t *testing.T) {
	const good, other = "00112233445566778899AABBCCDDEEFF", "FFEEDDCCBBAA99887766554433221100"
	for name, tt := range map[string]struct{ text, want string }{
		"one key":                    {good, ""},
		"a key change that was cut":  {other + "\n" + good + "\n", ""}, // the gateway starts again with both
		"the default key":            {"303132333435363738393A3B3C3D3E3F", "anybody would try"},
		"the default key among them": {good + "\n303132333435363738393a3b3c3d3e3f", "anybody would try"},
		"zeros":                      {strings.Repeat("0", 32), "anybody would try"},
		"an erased chip":             {strings.Repeat("F", 32), "anybody would try"},
		"too short":                  {good[2:], "holds no key"},
		"a good one and half of one": {good + "\n" + other[:16], "holds no key"},
	} {
		_, err := Parse("/etc/gatehouse/g.yaml", []byte(mixed), func(path string) ([]byte, fs.FileMode, error) {
			if filepath.Base(path) == "door.secret" {
				return []byte(tt.text + "\n"), 0o600, nil
			}
			return fakeFiles(path)
		})
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), good[2:])) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
