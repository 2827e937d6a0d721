package bus

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// portNames is where the system keeps the names of serial ports.
type portNames struct {
	dev    string // /dev
	byPath string // /dev/serial/by-path, links that name the socket
	byID   string // /dev/serial/by-id, links that name the adapter
	sysTTY string // /sys/class/tty
}

// numbered are ports that the kernel numbers in the order it finds them: USB
// adapters, those of makers' own drivers (ttyCH341USB, ttyXRUSB) too. On-board
// UARTs (ttyS, ttyAMA, ttymxc, ttyO, ttySC, ttyLP) are numbered by the hardware.
var numbered = regexp.MustCompile(`^tty[A-Z0-9]*(USB|ACM)[0-9]+$`)

// StableName reports whether a serial port's path means the same port after the
// next boot. If it does not, suggestion is a path of the same port that does,
// or empty if there is none now.
//
// A link in by-path is stable: it names the socket. A link in by-id is stable if
// the adapter has a serial number of its own; two adapters without one (CH340),
// or with the chip maker's default (0001), share one name. An adapter that is
// not plugged in cannot be asked and is believed. Every other path (on-board
// UARTs, links made by udev rules, terminals) is taken at its word.
func StableName(path string) (suggestion string, stable bool) {
	return portNames{
		dev: "/dev", byPath: "/dev/serial/by-path", byID: "/dev/serial/by-id", sysTTY: "/sys/class/tty",
	}.stable(path)
}

func (n portNames) stable(path string) (suggestion string, stable bool) {
	path = filepath.Clean(path)
	dir, name := filepath.Split(path)
	switch filepath.Clean(dir) {
	case n.dev:
		if !numbered.MatchString(name) {
			return "", true
		}
	case n.byID:
		port, err := filepath.EvalSymlinks(path)
		if err != nil || n.unique(port) {
			return "", true
		}
		path = port
	default:
		return "", true
	}
	if link := linkTo(n.byPath, path); link != "" {
		return link, false
	}
	if !n.unique(path) {
		return "", false
	}
	return linkTo(n.byID, path), false
}

// linkTo finds the shortest name in a directory of links that leads to a port:
// some versions of udev make two.
func linkTo(dir, port string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		if target, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name())); err == nil && target == port {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return slices.MinFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
}

// unique reports whether the USB device behind a port has a serial number that
// is more than a default. It is the attribute "serial" of the first directory
// above the port that is a USB device (has idVendor).
func (n portNames) unique(port string) bool {
	dir, err := filepath.EvalSymlinks(filepath.Join(n.sysTTY, filepath.Base(port), "device"))
	if err != nil {
		return false
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "idVendor")); err != nil {
			continue
		}
		serial, err := os.ReadFile(filepath.Join(dir, "serial"))
		return err == nil && len(strings.Trim(string(serial), "0 \n")) > 1
	}
	return false
}
