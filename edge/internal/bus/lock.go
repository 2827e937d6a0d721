package bus

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errPortTaken occurs when another program, or another bus, has the port open.
var errPortTaken = errors.New("the port is in use")

// lockPort opens a port and locks it; the lock lasts until the descriptor is
// closed, or the process ends, however it ends.
//
// The serial library asks for exclusive use by TIOCEXCL, which root does not
// heed; two masters on one line spoil every frame. So the device itself carries
// a flock, which picocom, minicom and util-linux heed too. A UUCP lock file
// (/var/lock/LCK..name) is not written: it needs a writable directory that a
// hardened service does not have, it outlives a crash, and two names of one
// port are two files.
func lockPort(path string) (fd int, err error) {
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return fd, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w by %s", errPortTaken, holder(fd))
	}
	unix.Close(fd)
	return -1, fmt.Errorf("locking %s: %w", path, err)
}

// holder names the process that has the lock on an open file.
func holder(fd int) string {
	const unknown = "another process"
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return unknown
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return unknown
	}
	defer locks.Close()
	device := uint64(st.Dev)
	pid := lockedBy(locks, unix.Major(device), unix.Minor(device), st.Ino)
	switch {
	case pid <= 0: // a process of another container
		return unknown
	case pid == os.Getpid():
		return "this program itself: two buses name the same port"
	}
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if name = bytes.TrimSpace(name); len(name) == 0 {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, name)
}

// lockedBy finds a flock in the format of /proc/locks (proc_locks(5)):
//
//	1: FLOCK  ADVISORY  WRITE 1234 00:18:5 0 EOF
func lockedBy(locks io.Reader, major, minor uint32, inode uint64) (pid int) {
	file := fmt.Sprintf("%02x:%02x:%d", major, minor, inode)
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 6 || words[1] != "FLOCK" || words[5] != file { // one that waits has "->" in between
			continue
		}
		if pid, err := strconv.Atoi(words[4]); err == nil {
			return pid
		}
	}
	return 0
}
