package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goldenDir = "../../../testdata/config"

// fakeFiles stands in for the files that a golden config names.
func fakeFiles(path string) ([]byte, fs.FileMode, error) {
	switch filepath.Base(path) {
	case "good.secret":
		return []byte("  s3cret\n"), 0o600, nil
	case "open.secret":
		return []byte("s3cret\n"), 0o644, nil
	case "cards.secret":
		return []byte("0123456789abcdef0123456789abcdef\n"), 0o600, nil
	}
	if filepath.Base(path) == "door.secret" {
		return []byte("00112233445566778899AABBCCDDEEFF\n"), 0o600, nil
	}
	if filepath.Base(filepath.Dir(path)) == "own" {
		data, err := os.ReadFile(filepath.Join(goldenDir, "own", filepath.Base(path)))
		return data, 0o644, err
	}
	return nil, 0, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

// Each wrong config beside its list of problems: all of them, each where it
// stands. GOLDEN=update rewrites the lists; read the difference.
func TestWrongConfigPrintsEveryProblemWithItsPosition(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(goldenDir, "*.yaml"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d golden configs in %s (%v)", len(files), goldenDir, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(file), data, fakeFiles)
			if err == nil {
				t.Fatal("loaded without a problem")
			}
			list := strings.TrimSuffix(file, ".yaml") + ".txt"
			got := err.Error() + "\n"
			if os.Getenv("GOLDEN") == "update" {
				if err := os.WriteFile(list, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(list)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
