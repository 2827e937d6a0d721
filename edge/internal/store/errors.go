package store

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"
)

// Errors of the store. Branch with errors.Is.
var (
	// ErrClosed occurs on use after Close.
	ErrClosed = errors.New("store is closed")
	// ErrLocked occurs when another process has the file open.
	ErrLocked = errors.New("in use by another process")
	// ErrNewer occurs when the file was written by a newer release. It is left untouched.
	ErrNewer = errors.New("written by a newer release")
	// ErrDamaged occurs when bytes on disk are not what was written.
	ErrDamaged = errors.New("damaged")
	// ErrFull occurs when neither disk nor quota has room left.
	ErrFull = errors.New("no space left")
	// ErrInvalid occurs when a record or key cannot be stored at all.
	ErrInvalid = errors.New("cannot be stored")
	// ErrBeyond occurs when an ack names records that do not exist.
	ErrBeyond = errors.New("ack beyond the last record")
)

// Error says which file failed and what to do about it.
type Error struct {
	Path string
	Err  error
	Hint string
}

// Error returns cause and hint on one line.
func (e *Error) Error() string {
	if e.Hint == "" {
		return fmt.Sprintf("store %s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("store %s: %v (%s)", e.Path, e.Err, e.Hint)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// explain classifies err by a sentinel and adds the hint an operator needs.
func explain(path string, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &Error{Path: path, Err: err}
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		e.Err, e.Hint = ErrLocked, "stop the other gatehouse on this directory, or set another store.dir"
	case errors.Is(err, ErrNewer):
		e.Hint = "install that release again, or set another store.dir; the file was not changed"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, bolterrors.ErrMaxSizeReached):
		e.Err, e.Hint = fmt.Errorf("%w: %w", ErrFull, err), "free space on this file system, or lower store.quota"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "give the directory to the user gatehouse runs as"
	case errors.Is(err, syscall.EROFS):
		e.Hint = "the file system is read-only: look for disk errors in dmesg, then remount or replace the card"
	case errors.Is(err, ErrDamaged), errors.Is(err, bolterrors.ErrInvalid),
		errors.Is(err, syscall.EFBIG), // a damaged page number leads far beyond the end
		errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		e.Hint = "restart: the file is then moved aside; keep it for support"
		if !errors.Is(err, ErrDamaged) {
			e.Err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		e.Hint = "set store.dir to a directory that can be created"
	case errors.Is(err, syscall.EIO):
		e.Hint = "the disk fails: look in dmesg and replace the card"
	}
	return e
}

// guard runs f and turns a panic, or a fault on a mapped page that the disk
// cannot deliver, into ErrDamaged. The file is mapped: reading it can fault.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return f()
}
