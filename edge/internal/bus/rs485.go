package bus

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errRS485 occurs when a port cannot switch the direction of its transceiver.
var errRS485 = errors.New("the port has no RS-485 direction of its own")

// rs485 is struct serial_rs485 of linux/serial.h: 32 bytes on every platform.
type rs485 struct {
	flags           uint32
	delayBeforeSend uint32 // milliseconds
	delayAfterSend  uint32
	_               [5]uint32 // reserved, zero
}

// Flags of struct serial_rs485, linux/serial.h.
const (
	rs485Enabled      = 1 << 0
	rs485RTSOnSend    = 1 << 1
	rs485RTSAfterSend = 1 << 2
)

// rs485For is what the kernel is told for a direction.
func rs485For(d Direction) rs485 {
	switch d {
	case DirectionRTSLow:
		return rs485{flags: rs485Enabled | rs485RTSAfterSend}
	case DirectionRTSHigh:
		return rs485{flags: rs485Enabled | rs485RTSOnSend}
	}
	return rs485{}
}

// setRS485 has the kernel switch the direction (TIOCSRS485), and reads back that
// it will: a driver may accept the call and clear what it cannot do.
func setRS485(fd int, d Direction) error {
	if d == DirectionOwn {
		return nil
	}
	want := rs485For(d)
	set := want
	if d == DirectionOff {
		var now rs485
		if err := ioctlRS485(fd, unix.TIOCGRS485, &now); err != nil || now.flags&rs485Enabled == 0 {
			return nil // it is off, or there is nothing to switch off
		}
	}
	if err := ioctlRS485(fd, unix.TIOCSRS485, &set); err != nil {
		return fmt.Errorf("setting rs485=%s: %w: %w", d, errRS485, err)
	}
	var got rs485
	if err := ioctlRS485(fd, unix.TIOCGRS485, &got); err != nil {
		return fmt.Errorf("reading back rs485=%s: %w: %w", d, errRS485, err)
	}
	wanted := uint32(rs485Enabled | rs485RTSOnSend | rs485RTSAfterSend)
	if d == DirectionOff {
		wanted = rs485Enabled // the others mean nothing without it
	}
	if got.flags&wanted != want.flags {
		return fmt.Errorf("setting rs485=%s: %w: asked for flags %#x, got %#x", d, errRS485, want.flags, got.flags&wanted)
	}
	return nil
}

func ioctlRS485(fd int, request uintptr, arg *rs485) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
		return errno
	}
	return nil
}
