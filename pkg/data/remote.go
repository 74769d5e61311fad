package data

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/s3url"
	"github.com/vlaring/vlaring/pkg/objects"
)

// Data in an object store (s3://…) is copied beside the Scans, whole, and from then on
// read from there like any other: sources seek, map and decode files many times. What
// has not changed in the store is not copied again.

// copies is where data of object stores is copied to.
func (w Watch) copies() (objects.Copies, error) {
	if w.Scans == nil {
		return objects.UserCopies()
	}
	return objects.Copies{Dir: filepath.Join(filepath.Dir(w.Scans.Dir), "objects")}, nil
}

// local is where what lies at path can be read on this machine: path itself, or a copy.
func (w Watch) local(ctx context.Context, path string) (string, error) {
	if !s3url.Is(path) {
		return path, nil
	}
	c, err := w.copies()
	if w.Here {
		if err == nil {
			if p, ok := c.Here(path); ok {
				return p, nil
			}
		}
		return "", missingFile{fmt.Sprintf("there is no whole copy of %s here", path)}
	}
	if err != nil {
		return "", err
	}
	got, err := c.Fetch(ctx, path, func(done, total int64) {
		if w.Progress != nil {
			w.Progress(Progress{Path: path, Done: done >> 20, Total: total >> 20, Unit: "MiB fetched"})
		}
	})
	if errors.Is(err, os.ErrNotExist) {
		return "", missingFile{err.Error()}
	}
	if err != nil {
		return "", err
	}
	if got.Stale != "" {
		w.note(got.Stale)
	}
	if got.Unproved > 0 && got.Fetched > 0 {
		w.note(fmt.Sprintf("%s: of %d files the store gives no hash that can be made here: their lengths and the connection are all that vouches for them", path, got.Unproved))
	}
	if got.Fetched > 0 {
		w.note(fmt.Sprintf("%s: %s fetched to %s", path, plain.Bytes(got.Fetched), got.Path))
	}
	return got.Path, nil
}

func (w Watch) note(line string) {
	if w.Note != nil {
		w.Note(line)
	}
}
