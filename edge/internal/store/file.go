package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"gatehouse/protocol/wire"
)

// schema is the version of the layout of both files.
const schema = 1

// Buckets besides the lanes, which are called by their names.
var (
	bucketMeta  = []byte("meta")
	bucketState = []byte("state")
	bucketAcked = []byte("acked")
	keySchema   = []byte("schema")
	keyEpoch    = []byte("epoch")
)

const (
	lockTimeout   = time.Second
	maxFile32     = 512 << 20 // where addresses are scarce
	memoryAlarms  = 8 << 20   // of a store without disk
	memorySpool   = 8 << 20
	minFile       = 4 * 4096 // bbolt's first four pages
	alarmMap      = 16 << 20 // address space, not memory
	spoolMap      = 64 << 20
	pruneAtOnce   = 1000 // records; keeps a transaction small
	dropAtOnce    = 4096
	lanesFillFull = 0.95 // keys only ever grow, so pages need no room to grow
)

// file is one bbolt file with its lanes.
type file struct {
	name    string // without its folder: the label of its metrics
	path    string
	db      *bolt.DB
	epoch   uint64
	lanes   []*lane // in the order in which they give way when there is no room
	failing bool    // the last attempt to store positions; the writer's own

	// broken is why db cannot be used: everything but sequence numbers then fails with it.
	broken atomic.Pointer[error]
	begin  sync.Mutex // held while a transaction begins
	disk   *os.File   // under db
}

// bucket of a lane. The names are those of the topics.
func laneBucket(l wire.Lane) []byte { return []byte(l.String()) }

func openFile(dir, name string, mapSize int, lanes ...wire.Lane) (*file, error) {
	path := filepath.Join(dir, name)
	f := &file{name: name, path: path}
	err := guard(func() error {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if err := create(path, lanes); err != nil {
				return err
			}
		}
		if err := inspect(path); err != nil {
			return err
		}
		o := options(mapSize)
		if bits.UintSize == 32 {
			o.MaxSize = maxFile32
		}
		return f.open(path, o, nil)
	})
	if err != nil {
		return nil, explain(path, err)
	}
	return f, nil
}

// openMemory opens a file that has no name and lives in memory. Should the
// kernel refuse even that, every use of the file fails with the reason.
func openMemory(name string, size int, lanes ...wire.Lane) *file {
	o := options(size)
	o.MaxSize, o.NoSync = size, true
	o.OpenFile = anonymous
	f := &file{name: name, path: "memory:" + name}
	if err := explain(f.path, f.open(name, o, func(tx *bolt.Tx) error { return initialise(tx, lanes) })); err != nil {
		f.broken.Store(&err)
	}
	return f
}

func anonymous(name string, _ int, _ os.FileMode) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func options(mapSize int) *bolt.Options {
	// The free list is synced: bbolt rebuilds one that is not by walking all
	// pages, at each open and rollback, on a goroutine that nobody can guard.
	return &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType, InitialMmapSize: mapSize}
}

// create makes the file whole before it gets its name: a file that bears the
// name and lacks a part is damaged, never half made.
func create(path string, lanes []wire.Lane) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(fresh, 0o600, options(0))
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error { return initialise(tx, lanes) })
	if err := errors.Join(err, db.Close()); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func initialise(tx *bolt.Tx, lanes []wire.Lane) error {
	names := [][]byte{bucketMeta, bucketState, bucketAcked}
	for _, l := range lanes {
		names = append(names, laneBucket(l))
	}
	for _, name := range names {
		if _, err := tx.CreateBucket(name); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	epoch := make([]byte, 8)
	_, _ = rand.Read(epoch) // never fails
	meta := tx.Bucket(bucketMeta)
	return errors.Join(
		meta.Put(keySchema, seal(binary.BigEndian.AppendUint32([]byte{version}, schema), 0, keySchema)),
		meta.Put(keyEpoch, seal(append([]byte{version}, epoch...), 0, keyEpoch)))
}

// inspect looks at schema, length and free list without the power to change anything.
func inspect(path string) error {
	if info, err := os.Stat(path); err != nil || info.Size() < minFile {
		return errors.Join(err, fmt.Errorf("%w: cut off below %d bytes", ErrDamaged, minFile))
	}
	f := &file{path: path}
	if err := f.open(path, &bolt.Options{ReadOnly: true, Timeout: lockTimeout}, nil); err != nil {
		return err
	}
	return errors.Join(f.view(func(tx *bolt.Tx) error {
		// A mapped page beyond the end of the file cannot be read but faults.
		if info, err := os.Stat(path); err != nil || info.Size() < tx.Size() {
			return fmt.Errorf("%w: cut off below %d bytes (%v)", ErrDamaged, tx.Size(), err)
		}
		return f.checkFreelist(tx)
	}), f.close())
}

func checkSchema(tx *bolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	if meta == nil {
		return fmt.Errorf("%w: no schema in it", ErrDamaged)
	}
	b, err := unseal(keySchema, meta.Get(keySchema))
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	switch {
	case len(b) != 4:
		return fmt.Errorf("%w: schema of %d bytes", ErrDamaged, len(b))
	case binary.BigEndian.Uint32(b) > schema:
		return fmt.Errorf("%w: schema %d, this release knows %d", ErrNewer, binary.BigEndian.Uint32(b), schema)
	}
	return nil
}

// open opens the file; prepare, if given, fills an empty one.
func (f *file) open(path string, o *bolt.Options, prepare func(*bolt.Tx) error) (err error) {
	openFile := o.OpenFile
	if openFile == nil {
		openFile = os.OpenFile
	}
	o.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		f.disk, err = openFile(name, flag, mode)
		return f.disk, err
	}
	err = guard(func() (err error) {
		f.db, err = bolt.Open(path, 0o600, o)
		return err
	})
	if err != nil {
		_ = f.disk.Close() // where bbolt panicked; else it is closed already
		return err
	}
	if prepare != nil {
		err = f.update(prepare)
	}
	if err == nil {
		err = f.readMeta()
	}
	if err != nil {
		return errors.Join(err, f.close())
	}
	return nil
}

func (f *file) readMeta() error {
	return f.view(func(tx *bolt.Tx) error {
		if err := checkSchema(tx); err != nil {
			return err
		}
		b, err := unseal(keyEpoch, tx.Bucket(bucketMeta).Get(keyEpoch))
		if err != nil || len(b) != 8 {
			return fmt.Errorf("%w: epoch", ErrDamaged)
		}
		f.epoch = binary.BigEndian.Uint64(b)
		return nil
	})
}

func (f *file) view(fn func(*bolt.Tx) error) error   { return f.transact(f.db.View, fn) }
func (f *file) update(fn func(*bolt.Tx) error) error { return f.transact(f.db.Update, fn) }

// transact runs fn in a transaction. Where bbolt panics while it begins or ends
// one it keeps its locks: the file is given up then, so that the next caller
// fails and does not wait for ever.
func (f *file) transact(run func(func(*bolt.Tx) error) error, fn func(*bolt.Tx) error) error {
	f.begin.Lock()
	begun := sync.OnceFunc(f.begin.Unlock)
	defer begun()
	if broken := f.broken.Load(); broken != nil {
		return *broken
	}
	var tx *bolt.Tx
	err := explain(f.path, guard(func() error {
		return run(func(t *bolt.Tx) error {
			tx = t
			begun()
			return fn(t)
		})
	}))
	if errors.Is(err, ErrDamaged) && (tx == nil || tx.DB() != nil) {
		f.broken.Store(&err)
	}
	return err
}

// used returns the bytes of pages that hold something, free the pages inside
// the file that can be written again; 0 if nobody can tell.
func (f *file) used() (used int64) {
	_ = f.view(func(tx *bolt.Tx) error {
		s := f.db.Stats()
		used = tx.Size() - int64(s.FreePageN+s.PendingPageN)*int64(f.db.Info().PageSize)
		return nil
	})
	return max(used, 0)
}

// close closes the file. One that was given up holds locks for which bbolt
// would wait: it closes the descriptor alone, and so frees the lock on disk.
func (f *file) close() error {
	end := f.db.Close
	if f.broken.Load() != nil {
		end = f.disk.Close
	}
	if err := end(); err != nil && !errors.Is(err, os.ErrInvalid) {
		return fmt.Errorf("close %s: %w", f.path, err)
	}
	return nil
}
