package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"
)

// config is cloud.yaml; a flag overrides what it says.
type config struct {
	Data           string `yaml:"data"`
	HTTP           string `yaml:"http"`
	MQTT           string `yaml:"mqtt"`
	Metrics        string `yaml:"metrics"`
	AllowPlaintext bool   `yaml:"allow_plaintext"`
}

func defaultConfig() config {
	return config{Data: defaultData, HTTP: "127.0.0.1:8090", MQTT: "127.0.0.1:1883"}
}

// loadConfig reads path over the defaults; an unknown key is an error with its
// place.
func loadConfig(path string) (config, error) {
	c := defaultConfig()
	f, err := os.Open(path)
	if err != nil {
		return c, fmt.Errorf("config: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	err = yaml.NewDecoder(f, yaml.Strict()).Decode(&c)
	if err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("config %s: %s", path, yaml.FormatError(err, false, true))
	}
	if c == (config{}) { // the decoder clears what an empty document does not mention
		return defaultConfig(), nil
	}
	return c, nil
}
