package features

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// Options say how much is kept, and where.
type Options struct {
	Dirs     []string // folders, of which the first that can be written to has the files; none: memory alone keeps
	Bytes    int64    // of all files in it together; 0: nothing is kept, in memory neither
	Pictures bool     // they come more than once. Those that are changed at random do not, and nothing of them is kept
	Frames   int      // how many pictures there are; 0: nobody knows
	Say      func(line string)

	memory int64 // tests: of results in memory; 0: memoryBytes, half of it for each of two encoders
}

// memoryBytes is how much of the results a process has in memory at most. Instructions
// are few: it holds a thousand of 32 tokens and 512 features.
const memoryBytes = 64 << 20

// Of Options.Bytes, words have one part of wordShare, and pictures the others: so the
// tables of a model's two encoders do not take each other's room.
const wordShare = 8

// ext ends the names of files; temp those of files in the making.
const (
	ext  = ".features"
	temp = ".making"
)

// stale is the age of a file in the making that a killed process has left, and touched
// how often a file that is in use is said to be.
const (
	stale   = time.Hour
	touched = time.Minute
)

// Of are the Options for data and a job's bound: beside the data, or, where that is not
// here or cannot be written to, below dir, the user's own; either may be empty. training
// says that pictures are changed as training changes them.
func Of(meta data.Meta, beside, dir string, bytes int64, training bool) Options {
	o := Options{Bytes: bytes, Pictures: !training || !meta.Augment.Changes()}
	for _, d := range []string{beside, dir} {
		if d != "" {
			o.Dirs = append(o.Dirs, filepath.Join(d, "features"))
		}
	}
	o.Frames = (meta.Train + meta.Heldout) * len(meta.Spec.Of(models.Image))
	return o
}

// Store is what a process has. It is the models.Keeper of programs of one goroutine.
type Store struct {
	o       Options
	dir     string // of files; empty: there are none
	look    sync.Once
	said    map[string]bool
	shelves map[[32]byte]*shelf

	Asked, Found int // results so far
}

var _ models.Keeper = (*Store)(nil)

// Open makes a store. No folder is touched before there is something to keep.
func Open(o Options) *Store {
	if o.memory == 0 {
		o.memory = memoryBytes
	}
	o.memory = min(o.memory, o.Bytes)
	if o.Say == nil {
		o.Say = func(string) {}
	}
	return &Store{o: o, said: map[string]bool{}, shelves: map[[32]byte]*shelf{}}
}

// Close closes the files.
func (s *Store) Close() {
	for _, x := range s.shelves {
		x.close()
	}
	clear(s.shelves)
}

// say says a thing once.
func (s *Store) say(thing, format string, a ...any) {
	if !s.said[thing] {
		s.said[thing] = true
		s.o.Say(fmt.Sprintf(format, a...))
	}
}

// Shelf is models.Keeper's.
func (s *Store) Shelf(p models.Part) models.Shelf {
	if s.o.Bytes <= 0 || p.Pictures && !s.o.Pictures {
		return nil
	}
	if x := s.shelves[p.ID]; x != nil {
		return x
	}
	s.look.Do(s.find)
	x := &shelf{s: s, part: p, rows: map[[32]byte][]float32{}, left: s.o.memory / 2}
	s.shelves[p.ID] = x
	if s.dir != "" {
		x.open()
	}
	return x
}

// find looks for a folder that can be written to, by this user and not by all.
func (s *Store) find() {
	var why error
	for _, dir := range s.o.Dirs {
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = ours(dir)
		}
		if err == nil {
			var f *os.File
			if f, err = os.CreateTemp(dir, "*"+temp); err == nil {
				f.Close()
				os.Remove(f.Name())
				s.dir = dir
				return
			}
		}
		if why == nil {
			why = err
		}
	}
	if why != nil {
		s.alone(why)
	}
}

// alone says that no file keeps anything, and why.
func (s *Store) alone(why error) {
	s.say("alone", "what frozen encoders make is kept in this worker's memory alone, up to %s: %v", plain.Bytes(s.o.memory), why)
}

// path is the file of a part.
func (s *Store) path(p models.Part) string {
	return filepath.Join(s.dir, hex.EncodeToString(p.ID[:16])+ext)
}

// room makes room for a new file of so many bytes beside those of others, by removing
// those that no process uses, that of the longest disuse first, and returns how many
// bytes it may have. (One that is removed while a process opens it keeps nothing for
// others any more; nothing else is lost.)
func (s *Store) room(own string, want int64) int64 {
	type file struct {
		path  string
		bytes int64
		used  time.Time
	}
	var all []file
	taken := int64(0)
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		i, err := e.Info()
		switch {
		case err != nil || !i.Mode().IsRegular() || path == own:
		case strings.HasSuffix(path, temp) && time.Since(i.ModTime()) > stale: // of a process that was killed
			os.Remove(path)
		case strings.HasSuffix(path, ext):
			f := file{path, i.Size(), i.ModTime()}
			if h, err := readHead(path); err == nil {
				f.bytes = h.bytes() // when it is full
			}
			all, taken = append(all, f), taken+f.bytes
		}
	}
	slices.SortFunc(all, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range all {
		if taken+want <= s.o.Bytes {
			break
		}
		if !held(f.path) && os.Remove(f.path) == nil {
			taken -= f.bytes
		}
	}
	return min(want, s.o.Bytes-taken)
}
