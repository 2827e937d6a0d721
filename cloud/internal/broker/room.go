package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

const (
	// minReserve and a tenth of the disk stay free: for files being rewritten,
	// the registry, and whoever shares the disk.
	minReserve = 256 << 20
	// minRoom is what the data may take however full the disk is.
	minRoom = 256 << 20
)

// disk is what the file system of a data directory has.
type disk struct {
	size int64 // of all of it
	room int64 // that the directory may take: what it takes now and what is free, less a reserve
}

func measure(dir string) (disk, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return disk{}, fmt.Errorf("size of the disk: %w", err)
	}
	used := int64(0)
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			used += st.Blocks * 512 // stat(2): the unit of st_blocks
		}
		return nil
	})
	if err != nil {
		return disk{}, fmt.Errorf("size of the data directory: %w", err)
	}
	block := int64(st.Bsize)
	size, free := int64(st.Blocks)*block, int64(st.Bavail)*block
	return disk{size: size, room: max(used+free-max(minReserve, size/10), minRoom)}, nil
}
