package config

import (
	"fmt"
	"os"

	"github.com/goccy/go-yaml"
)

// StoreDir reads nothing of a config file but where its store is. A fault
// elsewhere in the file must not keep a guard from the running daemon.
func StoreDir(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read config: %w; name an existing file with --config", err)
	}
	var c struct {
		Store struct {
			Dir string `yaml:"dir"`
		} `yaml:"store"`
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		return "", fmt.Errorf("%s is no YAML: name the control socket with --socket", path)
	}
	setDefault(&c.Store.Dir, DefaultStoreDir)
	return c.Store.Dir, nil
}
