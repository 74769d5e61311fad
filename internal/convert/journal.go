package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// What a conversion has done stands beside its OUT until all is done:
//
//	.OUT.converting/lock        held by who is at work
//	.OUT.converting/set/        what will be OUT
//	.OUT.converting/part-NNNNNN what there was when that part of the set was on the disk
//
// A part is a table of the LeRobot form, or a number of samples of a folder. A
// conversion that is killed goes on behind its last part: whatever else stands in the
// set is removed, so that what was half written never passes for whole. The result is
// that of a conversion without a break, byte for byte.

// journalPart is a file of the journal, by gob. Its lists are what is new.
type journalPart struct {
	Recipe string   // what the result depends on beside the shards
	From   int      // the first of Shards, in the list of all
	Shards []string // the shards that were begun, each by its length and a sample of its content
	Done   int      // samples of the last of those
	Hash   []byte   // of the samples of standard input, whose content is not known otherwise
	Frames int
	Tasks  []string
	Seen   []string // episodes
	Passed map[string]int
	Sink   []byte // what the form adds, by gob
}

// add makes of what was done before p all that is done after it.
func (all *journalPart) add(p journalPart) {
	p.Shards = append(all.Shards[:min(p.From, len(all.Shards))], p.Shards...)
	p.Tasks, p.Seen, p.From, p.Sink = append(all.Tasks, p.Tasks...), append(all.Seen, p.Seen...), 0, nil
	*all = p
}

// journal is the work of a conversion in its folder.
type journal struct {
	dir   string
	lock  *checkpoint.Lock
	parts int
	all   journalPart // what the parts say together
	sinks [][]byte    // of the parts that were there, for the form to go on
}

// workDir is the folder of a conversion to out.
func workDir(out string) string {
	return filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".converting")
}

func (j *journal) set() string { return filepath.Join(j.dir, "set") }

// openJournal takes the folder of a conversion to out. What there is of an earlier one
// is in its parts, unless it begins afresh.
func openJournal(out string, afresh bool) (*journal, error) {
	j := &journal{dir: workDir(out)}
	if err := os.MkdirAll(j.set(), 0o755); err != nil {
		return nil, err
	}
	err := errors.Join(atomicfile.SyncDir(j.dir), atomicfile.SyncDir(filepath.Dir(j.dir)))
	if err != nil {
		return nil, err
	}
	if j.lock, err = checkpoint.LockRunDir(j.dir); err != nil {
		var held *checkpoint.LockedError
		if errors.As(err, &held) {
			return nil, fmt.Errorf("another conversion to %s is at work (process %d on %s): wait for it", out, held.PID, held.Host)
		}
		return nil, err
	}
	if afresh {
		return j, j.clear()
	}
	for {
		b, err := regular.Read(j.part(j.parts), 1<<31)
		if errors.Is(err, fs.ErrNotExist) {
			return j, nil
		}
		var p journalPart
		if err == nil {
			err = gob.NewDecoder(bytes.NewReader(b)).Decode(&p)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w; --afresh begins anew", j.part(j.parts), err), j.lock.Unlock())
		}
		j.sinks = append(j.sinks, p.Sink)
		j.all.add(p)
		j.parts++
	}
}

func (j *journal) part(n int) string { return filepath.Join(j.dir, fmt.Sprintf("part-%06d", n)) }

// done is what is done; nil: nothing.
func (j *journal) done() *journalPart {
	if j.parts == 0 {
		return nil
	}
	return &j.all
}

// keep adds a part, whose files are on the disk.
func (j *journal) keep(p journalPart) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(p); err != nil {
		return err
	}
	if err := atomicfile.Write(j.part(j.parts), b.Bytes(), 0o644); err != nil {
		return err
	}
	j.all.add(p)
	j.parts++
	return nil
}

// clear removes all that was done.
func (j *journal) clear() error {
	all, err := os.ReadDir(j.dir)
	for _, e := range slices.Backward(all) { // the newest part first: what is left is whole
		if strings.HasPrefix(e.Name(), "part-") {
			err = errors.Join(err, os.Remove(filepath.Join(j.dir, e.Name())))
		}
	}
	return errors.Join(err, os.RemoveAll(j.set()), os.Mkdir(j.set(), 0o755))
}

// close gives the folder back; one with nothing to keep is removed.
func (j *journal) close() error {
	var err error
	if j.parts == 0 {
		err = os.RemoveAll(j.dir)
	}
	return errors.Join(err, j.lock.Unlock())
}

// publish gives the set its name.
func (j *journal) publish(out string) error {
	if err := os.Rename(j.set(), out); err != nil {
		return err
	}
	j.parts = 0
	return atomicfile.SyncDir(filepath.Dir(out))
}

// prune removes from the set all files but those that keep knows, by their path in it.
func (j *journal) prune(keep func(rel string) bool) error {
	return filepath.WalkDir(j.set(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(j.set(), path)
		if err == nil && !keep(filepath.ToSlash(rel)) {
			err = os.Remove(path)
		}
		return err
	})
}

// check refuses shards and options that are not those of the parts. A shard that was
// not begun may be another now.
func (p *journalPart) check(ctx context.Context, recipe string, shards []string, out string) error {
	if p.Recipe != recipe {
		return fmt.Errorf("%s holds what is done of a conversion with other options; give the same ones to go on, or --afresh to begin anew", workDir(out))
	}
	if len(p.Shards) > len(shards) {
		return fmt.Errorf("%s holds what is done of a conversion of %d shards or more, and here are %d; give the same ones to go on, or --afresh to begin anew", workDir(out), len(p.Shards), len(shards))
	}
	for i, was := range p.Shards {
		is, err := markOf(ctx, shards[i])
		if err != nil {
			return err
		}
		if is != was {
			return fmt.Errorf("%s is not the shard that %s holds the samples of; --afresh begins anew", shards[i], workDir(out))
		}
	}
	return nil
}

// markOf recognises a shard by its length and by blocks of its content.
func markOf(ctx context.Context, name string) (string, error) {
	if name == "-" {
		return "standard input", nil
	}
	f, size, err := openShard(ctx, name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const block, blocks = 64 << 10, 16
	h := sha256.New()
	for k := range int64(blocks) {
		at := max(0, (size-block)*k/(blocks-1))
		if _, err := io.Copy(h, io.NewSectionReader(f, at, block)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d bytes, %s", size, hex.EncodeToString(h.Sum(nil))), nil
}

// syncUp brings the entries of a folder of the set, and of those above it, to the disk.
func syncUp(dir, set string) error {
	for ; len(dir) >= len(set); dir = filepath.Dir(dir) {
		if err := atomicfile.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// ofStream hashes the samples of standard input.
func ofStream(h hash.Hash, s sample) {
	fmt.Fprintf(h, "%d %s", len(s.key), s.key)
	for _, p := range s.parts {
		fmt.Fprintf(h, " %s %d ", p.ext, len(p.body))
		h.Write(p.body)
	}
}

func encoded(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func decoded(b []byte, v any) error { return gob.NewDecoder(bytes.NewReader(b)).Decode(v) }

// tails are what lists of numbers have from a place on.
func tails(columns [][]float64, from int) (out [][]float64) {
	for _, c := range columns {
		out = append(out, slices.Clone(c[min(from, len(c)):]))
	}
	return out
}
