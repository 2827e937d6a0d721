package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gatehouse/edge/internal/rule"
	profiles "gatehouse/firmware-profiles"
	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

// DefaultStoreDir is where a packaged gateway keeps its store.
const DefaultStoreDir = "/var/lib/gatehouse"

// ReadFile returns the content and mode of a file that the config names.
type ReadFile func(path string) ([]byte, fs.FileMode, error)

// Load reads and checks a config file. What is wrong with it comes back as an
// Errors. Paths in it are relative to its own folder.
func Load(path string) (Plan, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Plan{}, fmt.Errorf("read config: %w; name an existing file with --config", err)
	}
	return Parse(path, data, readDisk)
}

func readDisk(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	data, err := os.ReadFile(path)
	return data, info.Mode(), err
}

// Parse checks a config from memory; name stands in its errors. A Plan that
// comes with an error holds the warnings and nothing else.
func Parse(name string, data []byte, read ReadFile) (Plan, error) {
	l := &loader{read: read, now: time.Now, dir: filepath.Dir(name), profiles: make(map[string]profiles.Profile), keyFiles: make(map[string]string)}
	l.Doc = strict.Decode(name, data, &l.cfg)
	l.plan.Points = make(map[point.ID]*rule.PointInfo)
	l.fill()
	l.gateway()
	l.cloud()
	l.listeners()
	l.buses()
	l.devices()
	l.rules()
	l.notInThisRelease()

	l.warnings.Sort()
	if problems := append(l.Problems(), l.elsewhere...); len(problems) > 0 {
		problems.Sort()
		return Plan{Warnings: l.warnings}, problems
	}
	l.plan.Config, l.plan.Warnings = l.cfg, l.warnings
	return l.plan, nil
}

// loader turns one decoded file into a plan. Its methods are the sections of
// the file; each goes on after a fault, so that all are found at once.
type loader struct {
	*strict.Doc
	cfg       Config
	plan      Plan
	read      ReadFile
	now       func() time.Time
	dir       string
	profiles  map[string]profiles.Profile // loaded so far
	keyFiles  map[string]string           // of door readers, by path
	elsewhere Errors                      // problems in other files: rule packs
	warnings  Errors

	cardReader string // the first point found that reads credentials
}

func (l *loader) warn(key, hint, what string, args ...any) {
	l.warnings = append(l.warnings, l.Problem(key, hint, what, args...))
}

// fill puts in the defaults that depend on nothing else in the file.
func (l *loader) fill() {
	c := &l.cfg
	setDefault(&c.Gateway.Timezone, "Asia/Shanghai")
	setDefault(&c.Store.Dir, DefaultStoreDir)
	setDefault(&c.Metrics.Listen, "127.0.0.1:9100")
	if !l.Has("cloud.flush") {
		c.Cloud.Flush = 10 * time.Second
	}
	if !l.Has("cloud.heartbeat") {
		c.Cloud.Heartbeat = 5 * time.Minute
	}
	if c.Rules.Include == nil {
		c.Rules.Include = []string{"standard"}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// required reports whether a text is there.
func (l *loader) required(key, value, hint string) bool {
	if value == "" {
		l.Fail(key, hint, "is missing")
		return false
	}
	return true
}

// path makes a path of the file absolute to the file's own folder.
func (l *loader) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(l.dir, p)
}

// secret reads a file that nobody but its owner may read.
func (l *loader) secret(key, name string) string {
	data, mode, err := l.read(l.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.Fail(key, "create it with mode 0600", "the file %s does not exist", name)
	case errors.Is(err, fs.ErrPermission):
		l.Fail(key, "let the user that runs gatehouse own it", "the file %s may not be read", name)
	case err != nil:
		l.Fail(key, "name a readable file", "%v", err)
	case mode.Perm()&0o077 != 0:
		l.Fail(key, "run: chmod 600 "+name, "the file %s is open to others (mode %04o)", name, mode.Perm())
	default:
		secret := string(bytes.TrimSpace(data))
		if secret == "" {
			l.Fail(key, "write the secret into it", "the file %s is empty", name)
		}
		return secret
	}
	return ""
}
