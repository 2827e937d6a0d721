package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"gatehouse/protocol/wire"
)

// openWhole opens the file with its lanes. A damaged one is moved aside and
// begun anew: a gateway that forgets is better than one that stores no more.
func (s *Store) openWhole(dir, name string, mapSize int, lanes ...wire.Lane) (*file, error) {
	f, err := s.tryOpen(dir, name, mapSize, lanes)
	if !errors.Is(err, ErrDamaged) {
		return f, err
	}
	path := filepath.Join(dir, name)
	aside, moved := s.quarantine(path)
	if moved != nil {
		return nil, explain(path, errors.Join(err, moved))
	}
	s.quarantined = append(s.quarantined, aside)
	s.log.Error("a file of the store is damaged: begun anew, the old one is kept beside it", "path", aside, "err", err)
	return s.tryOpen(dir, name, mapSize, lanes)
}

func (s *Store) tryOpen(dir, name string, mapSize int, lanes []wire.Lane) (*file, error) {
	f, err := openFile(dir, name, mapSize, lanes...)
	if err != nil {
		return nil, err
	}
	if err := s.addLanes(f, lanes...); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// quarantine renames a damaged file. An alarm.db moved aside is never
// overwritten; of the spool, which is large and disposable, one is kept.
func (s *Store) quarantine(path string) (string, error) {
	aside := path + ".damaged"
	if filepath.Base(path) == alarmFile {
		stamp := aside + s.now().UTC().Format("-20060102T150405Z")
		aside = stamp
		for n := 2; ; n++ { // the clock of a box may tell the same time twice
			if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
				break
			} else if err != nil {
				return "", err
			}
			aside = fmt.Sprintf("%s-%d", stamp, n)
		}
	}
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	if info, err := os.Stat(aside); err == nil {
		_ = os.Truncate(aside, info.Size()) // gives back what was reserved beyond its end
	}
	return aside, syncDir(filepath.Dir(path))
}

// Quarantined returns the paths of the files that were found damaged at Open
// and moved aside. What they held is lost to this store, until a person looks.
func (s *Store) Quarantined() []string { return s.quarantined }

// whole fails if what every start needs cannot be read: the positions, the
// states and the end of each lane, which load has read.
func whole(tx *bolt.Tx) error {
	for _, name := range [][]byte{bucketMeta, bucketState, bucketAcked} {
		b := tx.Bucket(name)
		if b == nil {
			return fmt.Errorf("%w: no bucket %s", ErrDamaged, name)
		}
		if err := b.ForEach(func(_, _ []byte) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// reserve takes blocks for alarm.db while the disk has them: a disk that others
// fill then has room for alarms still. It is best effort, and costs disk only.
func reserve(f *file, quota int64, log *slog.Logger) {
	if bits.UintSize == 32 || quota > 0 && quota <= 2*alarmReserve {
		return
	}
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(f.disk.Fd()), &disk); err != nil || int64(disk.Blocks)*int64(disk.Bsize) < smallDiskSize {
		return
	}
	err := unix.Fallocate(int(f.disk.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, alarmReserve)
	if err != nil {
		log.Debug("no blocks could be reserved for alarms", "path", f.path, "err", err)
	}
}
