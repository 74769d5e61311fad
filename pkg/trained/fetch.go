package trained

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/checkpoint/bucket"
)

// copies is how many checkpoints of object stores the user's cache keeps, the newest
// used; others go once they have not been used for an hour.
const copies = 8

// fetch is Find of an address in an object store: the checkpoint is copied to the
// user's cache, where it is found again while it is the same. A copy has a name made
// of its manifest, and with that of all its bytes.
func fetch(ctx context.Context, address string, say func(string)) (dir string, passed []checkpoint.Passed, err error) {
	s, err := bucket.Open(ctx, address)
	if err != nil {
		return "", nil, usage.Wrap(err)
	}
	at := s.Place()
	r, err := at.Reader()
	if err == nil {
		dir, err = keepCopy(ctx, r, at.Dir, say)
		return dir, nil, err
	}
	_, isStep := checkpoint.StepOf(path.Base(at.Dir))
	if isStep && errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("there is no checkpoint %s, or it is not all there yet\nwhat there is: coordinator checkpoint ls %s", at.Dir, plain.ShellWord(at.Dir[:strings.LastIndexByte(at.Dir, '/')]))
	}
	if isStep || !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	damaged := ""
	for _, at := range []checkpoint.Place{at.In("checkpoints"), at} {
		entries, err := at.List()
		if err != nil {
			return "", nil, err
		}
		for _, e := range slices.Backward(entries) {
			damaged = e.Dir
			if e.State != checkpoint.Complete {
				passed = append(passed, checkpoint.Passed{Dir: e.Dir, Reason: e.Problem})
				continue
			}
			r, err := at.Open(e.Step)
			if err == nil {
				dir, err = keepCopy(ctx, r, e.Dir, say)
			}
			if err == nil {
				return dir, passed, nil
			}
			if !errors.Is(err, checkpoint.ErrCorrupt) && !errors.Is(err, checkpoint.ErrNone) {
				return "", nil, err
			}
			passed = append(passed, checkpoint.Passed{Dir: e.Dir, Reason: err.Error()})
		}
	}
	if damaged != "" {
		return "", passed, fmt.Errorf("%s holds no checkpoint that verifies\nwhat is wrong: coordinator checkpoint verify %s", s, plain.ShellWord(address))
	}
	return "", nil, fmt.Errorf("there is no checkpoint in %s, whole and with its manifest", s)
}

// keepCopy is the directory of a verified copy of a checkpoint, which lies at where.
func keepCopy(ctx context.Context, r checkpoint.Reader, where string, say func(string)) (string, error) {
	defer r.Close()
	sealed, err := r.Manifest().Sealed()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no place for a copy of %s: %w; set XDG_CACHE_HOME to a directory with room", where, err)
	}
	cache = filepath.Join(cache, "vlaring", "checkpoints")
	id := sha256.Sum256(sealed)
	root := filepath.Join(cache, hex.EncodeToString(id[:10]))
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("no copy of %s: %w; XDG_CACHE_HOME names another place", where, err)
	}
	lock, err := waitForLock(ctx, root)
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	m := r.Manifest()
	dir := filepath.Join(root, checkpoint.DirName(m.Step))
	if checkpoint.Verify(dir).OK {
		now := time.Now()
		os.Chtimes(root, now, now) // it was used; if not, it goes sooner
		return dir, nil
	}
	store, err := checkpoint.OpenDisk(root)
	if err != nil {
		return "", err
	}
	said := time.Now()
	if err := store.Put(ctx, r, func(n int64) {
		if now := time.Now(); now.Sub(said) > 5*time.Second {
			said = now
			say(fmt.Sprintf("fetching %s: %s of %s", where, plain.Bytes(n), plain.Bytes(m.Bytes())))
		}
	}); err != nil {
		return "", fmt.Errorf("fetching %s: %w", where, err)
	}
	say(fmt.Sprintf("fetched %s, %s, to %s", where, plain.Bytes(m.Bytes()), dir))
	prune(cache, root)
	return dir, nil
}

// waitForLock waits for another process that fetches the same.
func waitForLock(ctx context.Context, dir string) (*checkpoint.Lock, error) {
	for {
		l, err := checkpoint.LockRunDir(dir)
		var held *checkpoint.LockedError
		if err == nil || !errors.As(err, &held) {
			return l, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// prune removes copies that have not been used for long. What it cannot remove stays.
func prune(cache, but string) {
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) <= copies {
		return
	}
	used := map[string]time.Time{}
	var names []string
	for _, e := range entries {
		if i, err := e.Info(); err == nil && i.IsDir() {
			names = append(names, e.Name())
			used[e.Name()] = i.ModTime()
		}
	}
	slices.SortFunc(names, func(a, b string) int { return used[b].Compare(used[a]) })
	for _, name := range names[min(copies, len(names)):] {
		dir := filepath.Join(cache, name)
		if dir == but || time.Since(used[name]) < time.Hour {
			continue
		}
		if lock, err := checkpoint.LockRunDir(dir); err == nil {
			os.RemoveAll(dir)
			lock.Unlock()
		}
	}
}
