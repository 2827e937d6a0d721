package cli

import (
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"gatehouse/cloud/app"
)

func newRun() *cobra.Command {
	var (
		path  string
		level string
	)
	flags := defaultConfig()
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the service",
		Example: `  gatehouse-cloud run --config /etc/gatehouse/cloud.yaml
  gatehouse-cloud run --data ./data --http 127.0.0.1:8090 --mqtt 127.0.0.1:1883`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := resolve(cmd, path, flags)
			if err != nil {
				return err
			}
			var lv slog.Level
			if err := lv.UnmarshalText([]byte(level)); err != nil {
				return fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return app.Run(ctx, app.Options{
				Data: c.Data, HTTPAddr: c.HTTP, MQTTAddr: c.MQTT, MetricsAddr: c.Metrics, AllowPlaintext: c.AllowPlaintext,
				Log: newLogger(cmd.ErrOrStderr(), lv),
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&path, "config", "", "configuration file (YAML)")
	f.StringVar(&flags.Data, "data", flags.Data, "data directory")
	f.StringVar(&flags.HTTP, "http", flags.HTTP, "address of the pull API, /healthz and /readyz, and of /metrics for this host")
	f.StringVar(&flags.Metrics, "metrics", "", "address of a listener for /metrics alone, open to all who reach it; none if absent")
	f.StringVar(&flags.MQTT, "mqtt", flags.MQTT, "address gateways connect to")
	f.BoolVar(&flags.AllowPlaintext, "allow-plaintext", false, "listen beyond loopback without TLS")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// resolve returns the file's configuration, or the defaults, under the flags
// that were given.
func resolve(cmd *cobra.Command, path string, flags config) (config, error) {
	if path == "" {
		return flags, nil
	}
	c, err := loadConfig(path)
	if err != nil {
		return c, err
	}
	given := cmd.Flags().Changed
	if given("data") {
		c.Data = flags.Data
	}
	if given("http") {
		c.HTTP = flags.HTTP
	}
	if given("mqtt") {
		c.MQTT = flags.MQTT
	}
	if given("metrics") {
		c.Metrics = flags.Metrics
	}
	if given("allow-plaintext") {
		c.AllowPlaintext = flags.AllowPlaintext
	}
	return c, nil
}
