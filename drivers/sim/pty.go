package sim

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pty is a pseudo-terminal: we are on its master side, a client opens path.
type pty struct {
	master *os.File
	slave  *os.File // held open so that a client's close does not hang up the line
	path   string
	link   string
}

// openPTY makes a pseudo-terminal that passes bytes unchanged, and a symlink
// to it if link is not empty.
func openPTY(link string) (_ *pty, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	p := &pty{master: os.NewFile(uintptr(fd), "/dev/ptmx"), link: link}
	defer func() {
		if err != nil {
			p.link = "" // not ours to remove
			err = errors.Join(err, p.Close())
		}
	}()
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock pty: %w", err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("number of pty: %w", err)
	}
	p.path = fmt.Sprintf("/dev/pts/%d", n)
	if p.slave, err = os.OpenFile(p.path, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, err
	}
	if err := setRaw(int(p.slave.Fd())); err != nil {
		return nil, fmt.Errorf("set %s raw: %w", p.path, err)
	}
	if link != "" {
		if err := symlink(p.path, link); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// symlink makes link point at path, replacing a link left by an earlier run but
// nothing else.
func symlink(path, link string) error {
	if fi, err := os.Lstat(link); err == nil && fi.Mode()&os.ModeSymlink != 0 {
		if err := os.Remove(link); err != nil {
			return err
		}
	}
	return os.Symlink(path, link)
}

// setRaw is cfmakeraw(3).
func setRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// Close hangs up the line and removes the link.
func (p *pty) Close() error {
	var errs []error
	if p.link != "" {
		errs = append(errs, os.Remove(p.link))
	}
	if p.slave != nil {
		errs = append(errs, p.slave.Close())
	}
	return errors.Join(append(errs, p.master.Close())...)
}
