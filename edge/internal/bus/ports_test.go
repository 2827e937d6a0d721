package bus

import (
	"os"
	"path/filepath"
	"testing"
)

// system builds the directories of a box: two CH340 adapters without serial
// numbers, one FTDI with one, a CP2102 with the default, an unlisted adapter.
func system(t *testing.T) portNames {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := portNames{dev: root + "/dev", byPath: root + "/dev/serial/by-path", byID: root + "/dev/serial/by-id", sysTTY: root + "/class/tty"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{n.byPath, n.byID, n.sysTTY} {
		must(os.MkdirAll(dir, 0o755))
	}
	for port, serial := range map[string]string{"ttyUSB0": "", "ttyUSB1": "", "ttyUSB2": "A50285BI\n", "ttyUSB3": "0001\n", "ttyACM0": "XYZ\n"} {
		must(os.WriteFile(filepath.Join(n.dev, port), nil, 0o600))
		usb := filepath.Join(root, "devices", port)
		must(os.MkdirAll(filepath.Join(usb, "1-1:1.0", port), 0o755))
		must(os.WriteFile(filepath.Join(usb, "idVendor"), []byte("1a86\n"), 0o600))
		if serial != "" {
			must(os.WriteFile(filepath.Join(usb, "serial"), []byte(serial), 0o600))
		}
		must(os.MkdirAll(filepath.Join(n.sysTTY, port), 0o755))
		must(os.Symlink(filepath.Join(usb, "1-1:1.0", port), filepath.Join(n.sysTTY, port, "device")))
	}
	for link, port := range map[string]string{
		"by-path/pci-0-usb-0:1:1.0-port0": "ttyUSB0", "by-path/pci-0-usbv2-0:1:1.0-port0": "ttyUSB0",
		"by-path/pci-0-usb-0:2:1.0-port0": "ttyUSB1", "by-path/pci-0-usb-0:3:1.0-port0": "ttyUSB2",
		"by-id/usb-1a86_USB_Serial-if00-port0": "ttyUSB1", "by-id/usb-FTDI_FT232R_A50285BI-if00-port0": "ttyUSB2",
		"by-id/usb-Silicon_Labs_CP2102_0001-if00-port0": "ttyUSB3", "by-id/usb-ACME_XYZ-if00": "ttyACM0",
	} {
		must(os.Symlink("../../"+port, filepath.Join(n.dev, "serial", link)))
	}
	return n
}

func TestStableName(t *testing.T) {
	n := system(t)
	for path, want := range map[string]struct {
		suggestion string
		stable     bool
	}{
		"ttyS1": {"", true}, "ttyAMA0": {"", true}, "ttymxc2": {"", true}, "ttyO4": {"", true}, "ttySC0": {"", true}, "ttyLP1": {"", true},
		"ttyUSB0":                                {"serial/by-path/pci-0-usb-0:1:1.0-port0", false},
		"ttyUSB2":                                {"serial/by-path/pci-0-usb-0:3:1.0-port0", false},
		"ttyUSB3":                                {"", false},
		"ttyACM0":                                {"serial/by-id/usb-ACME_XYZ-if00", false},
		"ttyUSB9":                                {"", false},
		"ttyCH341USB0":                           {"", false},
		"serial/by-path/pci-0-usb-0:1:1.0-port0": {"", true},
		"serial/by-path/not-plugged-in":          {"", true},
		"serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0":     {"", true},
		"serial/by-id/not-plugged-in":                          {"", true},
		"serial/by-id/usb-1a86_USB_Serial-if00-port0":          {"serial/by-path/pci-0-usb-0:2:1.0-port0", false},
		"serial/by-id/usb-Silicon_Labs_CP2102_0001-if00-port0": {"", false},
		"gatehouse-east":      {"", true},
		"pts/4":               {"", true},
		"./serial/../ttyUSB0": {"serial/by-path/pci-0-usb-0:1:1.0-port0", false},
	} {
		if want.suggestion != "" {
			want.suggestion = filepath.Join(n.dev, want.suggestion)
		}
		suggestion, stable := n.stable(n.dev + "/" + path)
		if suggestion != want.suggestion || stable != want.stable {
			t.Errorf("%s: %q, %v; want %q, %v", path, suggestion, stable, want.suggestion, want.stable)
		}
	}
	if suggestion, stable := StableName("/dev/ttyS0"); suggestion != "" || !stable {
		t.Errorf("/dev/ttyS0: %q, %v", suggestion, stable)
	}
	if _, stable := StableName("/dev/ttyUSB77"); stable {
		t.Error("/dev/ttyUSB77 is said to be stable")
	}
}
