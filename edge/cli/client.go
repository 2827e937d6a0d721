package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/edge/internal/config"
	"gatehouse/edge/internal/web"
)

// How long one question to the daemon may take; an order to a device takes as
// long as the device.
const (
	askTimeout   = 10 * time.Second
	orderTimeout = 30 * time.Second
)

// reach is how a command finds the running daemon.
type reach struct {
	socket string
	config string
}

func (r *reach) flags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&r.socket, "socket", "", "the daemon's control socket (default: the one its configuration leads to)")
	cmd.PersistentFlags().StringVar(&r.config, "config", "", "the running gateway's configuration, to find its control socket")
}

// path returns the socket: the one given, that of the configuration given, or
// that of a gateway that keeps to the defaults.
func (r *reach) path() (string, error) {
	if r.socket != "" {
		return r.socket, nil
	}
	dir := config.DefaultStoreDir
	if r.config != "" {
		var err error
		if dir, err = config.StoreDir(r.config); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, web.SocketName), nil
}

// ask sends one request to the daemon and decodes its answer into out. accepted
// reports that it took effect and is not stored yet.
func (r *reach) ask(ctx context.Context, method, path string, in, out any) (accepted bool, err error) {
	socket, err := r.path()
	if err != nil {
		return false, err
	}
	patience := askTimeout
	if method == "POST" {
		patience = orderTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return false, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://gatehouse"+path, body)
	if err != nil {
		return false, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	resp, err := client.Do(req)
	if err != nil {
		return false, explain(socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		var f web.Failure
		if err := json.NewDecoder(resp.Body).Decode(&f); err != nil {
			return false, fmt.Errorf("the daemon answered %s", resp.Status)
		}
		if f.Hint != "" {
			return false, fmt.Errorf("%s: %s", f.Error, f.Hint)
		}
		return false, errors.New(f.Error)
	}
	return resp.StatusCode == http.StatusAccepted, json.NewDecoder(resp.Body).Decode(out)
}

func explain(socket string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: permission denied: run this as the user the gateway runs as, or as root", socket)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%s: the gateway turned this user away: run this as the user the gateway runs as, or as root", socket)
	}
	return fmt.Errorf("%s: the gateway does not answer (%w): is it running? Name its configuration with --config", socket, err)
}
