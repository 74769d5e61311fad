package convert

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/s3url"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/objects"
)

// opened is a shard that is open: a file of this machine, or an object of a store, of
// which no more is here at a time than what is being read.
type opened interface {
	io.ReaderAt
	io.Closer
}

// openShard opens a shard and says how long it is.
func openShard(ctx context.Context, name string) (opened, int64, error) {
	if !s3url.Is(name) {
		f, size, err := regular.Open(name)
		if err != nil {
			return nil, 0, err
		}
		return f, size, nil
	}
	f, err := openObject(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Size()
	return f, size, err
}

func openObject(ctx context.Context, name string) (*objects.File, error) {
	b, err := objects.Open(name)
	if err != nil {
		return nil, err
	}
	f, err := b.File(ctx, "")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, err
}

func noShard(name string) error {
	return usage.Errorf("there is no %s: give tar archives (WebDataset shards), or - for standard input", name)
}

// sizeOf is how long a shard is.
func sizeOf(ctx context.Context, name string) (int64, error) {
	if !s3url.Is(name) {
		info, err := os.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return 0, noShard(name)
		case err != nil:
			return 0, err
		case info.IsDir():
			return 0, usage.Errorf("%s is a folder: give the tar archives in it, such as '%s'", name, filepath.Join(name, "*.tar"))
		}
		return info.Size(), nil
	}
	f, err := openObject(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, noShard(name)
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size()
}
