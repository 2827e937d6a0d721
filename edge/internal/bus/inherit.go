package bus

import (
	"os"
	"strconv"
	"syscall"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"
)

// openPrivately opens a port that no child process inherits. The library leaves
// its descriptors open across exec, and does not show them: a camera worker
// would keep a pulled adapter's name taken for as long as it lives. lock is a
// descriptor of the same port.
func openPrivately(path string, mode *serial.Mode, lock int) (serial.Port, error) {
	syscall.ForkLock.RLock() // no child starts before the descriptors are marked
	defer syscall.ForkLock.RUnlock()
	port, err := serial.Open(path, mode)
	if err == nil {
		keepFromChildren(lock)
	}
	return port, err
}

// keepFromChildren marks what is open of a port, and the library's pipes. That a
// pipe or port of someone else is marked too is no harm: package os marks all
// of its own. Without /proc nothing is marked, and all else works.
func keepFromChildren(port int) {
	var want unix.Stat_t
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil || unix.Fstat(port, &want) != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		var st unix.Stat_t
		if err != nil || fd <= 2 || unix.Fstat(fd, &st) != nil {
			continue
		}
		kind := st.Mode & unix.S_IFMT
		if kind == unix.S_IFIFO || kind == unix.S_IFCHR && st.Rdev == want.Rdev {
			unix.CloseOnExec(fd)
		}
	}
}
