package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/data"
)

// keptIndexes is how many indexes of its data a run directory keeps: the
// checkpoint that a run goes on from may be older than the newest change.
const keptIndexes = 8

func indexPath(dir, fingerprint string) string {
	hash := strings.TrimPrefix(fingerprint, "sha256:")
	return filepath.Join(dir, "data-"+hash[:min(12, len(hash))]+".index")
}

// keepIndex writes the index of the data, by its fingerprint, to the run directory dir.
func keepIndex(ctx context.Context, dir string, set data.Dataset, fingerprint string) error {
	path := indexPath(dir, fingerprint)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	x, err := set.Index(ctx)
	if errors.Is(err, data.ErrNoIndex) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := atomicfile.Write(path, x.Encode(), 0o644); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "data-*.index"))
	if err != nil || len(old) <= keptIndexes {
		return err
	}
	age := map[string]int64{}
	for _, p := range old {
		if i, err := os.Stat(p); err == nil {
			age[p] = i.ModTime().UnixNano()
		}
	}
	slices.SortFunc(old, func(a, b string) int { return int((age[a] - age[b]) / 1e6) })
	for _, p := range old[:len(old)-keptIndexes] {
		if p != path {
			os.Remove(p)
		}
	}
	return nil
}

// maxIndexFile bounds the index of a data set.
const maxIndexFile = 1 << 34

// readIndex reads the index of the data with a fingerprint; nil if there is none.
func readIndex(dir, fingerprint string) (*data.Index, error) {
	path := indexPath(dir, fingerprint)
	b, err := regular.Read(path, maxIndexFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x, err := data.DecodeIndex(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return x, nil
}
