package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"unsafe"

	"gatehouse/drivers/drivertest"
)

func TestTheKernelIsToldTheDirection(t *testing.T) {
	if size := unsafe.Sizeof(rs485{}); size != 32 {
		t.Fatalf("struct serial_rs485 has 32 bytes, ours %d", size)
	}
	for direction, flags := range map[Direction]byte{DirectionOff: 0, DirectionRTSHigh: 0x03, DirectionRTSLow: 0x05} {
		set := rs485For(direction)
		got := unsafe.Slice((*byte)(unsafe.Pointer(&set)), 32)
		want := make([]byte, 32)
		binary.NativeEndian.PutUint32(want, uint32(flags))
		if !bytes.Equal(got, want) {
			t.Errorf("%s: % x", direction, got)
		}
	}
}

func TestAPortWithoutDirectionSaysSo(t *testing.T) {
	_, path := drivertest.PTY(t)
	link, err := ParseLink("serial:" + path + "?rs485=rts-high")
	if err != nil {
		t.Fatal(err)
	}
	l := &serialLine{link: link}
	before := descriptors(t)
	err = l.open(t.Context())
	if !errors.Is(err, errRS485) || l.isOpen() || !strings.Contains(openHint(link, err), "remove rs485") {
		t.Errorf("%v, hint %q", err, openHint(link, err))
	}
	if n := descriptors(t); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
	for _, without := range []Direction{DirectionOwn, DirectionOff} {
		l.link.RS485 = without
		if err := l.open(t.Context()); err != nil {
			t.Errorf("rs485=%q: %v", without, err)
		}
		l.shut()
	}
}

// descriptors is how many files this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
