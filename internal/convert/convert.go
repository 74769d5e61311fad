package convert

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The forms that are written.
const (
	Auto    = "auto" // LeRobot where samples say which episode they are of, else Folder
	LeRobot = "lerobot"
	Folder  = "folder"
)

// Options say what is converted.
type Options struct {
	Shards   []string                            // files, with {000..123} for several; "-" is Stdin
	Out      string                              // the new folder
	Form     string                              // Auto, LeRobot or Folder
	FPS      float64                             // frames a second; 0: as the samples say
	Robot    string                              // what info.json calls the robot; may be empty
	Stdin    io.Reader                           // of "-"
	Progress func(frames int, done, total int64) // bytes of the shards; total 0: not known. May be nil
	Afresh   bool                                // what an earlier conversion has done does not count

	partBytes, partSamples int // after which a part of the set is whole; 0: as usual; of the bytes -1: each episode
}

// Report says what a conversion has made.
type Report struct {
	Form     string         `json:"form"`
	Episodes int            `json:"episodes"`
	Frames   int            `json:"frames"`
	Tasks    int            `json:"tasks"`
	Features []string       `json:"features"`         // with their shapes
	Passed   map[string]int `json:"passed,omitempty"` // what was not read, and in how many samples
	Before   int            `json:"before,omitempty"` // frames that an earlier conversion had done
}

// sink is a form that is written. Before each part of it that is whole and on the disk
// it calls Options' keep with what it needs to go on behind that part.
type sink interface {
	start(f frame) error // f is the first frame of all
	resume(parts [][]byte) error
	add(f frame) error
	finish() error
	abandon()            // after an error, in place of finish
	own(rel string) bool // a file of what was resumed
}

// Unfinished is an error after which the same conversion goes on behind what is done.
type Unfinished struct {
	Frames int // that are done
	Err    error
}

func (e *Unfinished) Error() string { return e.Err.Error() }
func (e *Unfinished) Unwrap() error { return e.Err }

// Run converts. After an error, ctx's too, there is nothing at Out; of an *Unfinished
// one the same call goes on behind what is done.
func Run(ctx context.Context, o Options) (r Report, err error) {
	if o.Shards, err = expand(o.Shards); err != nil {
		return r, err
	}
	if o.Out == "" || len(o.Shards) == 0 {
		return r, errors.New("nothing to convert, or no folder for it")
	}
	if _, err := os.Lstat(o.Out); !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("%s is there already; name a folder that is not", o.Out)
	}
	var total int64
	for _, s := range o.Shards {
		if s == "-" {
			continue
		}
		size, err := sizeOf(ctx, s)
		if err != nil {
			return r, err
		}
		total += size
	}
	out := filepath.Clean(o.Out)
	if err := os.MkdirAll(filepath.Dir(out), 0o777); err != nil {
		return r, err
	}
	j, err := openJournal(out, o.Afresh)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	c := &conversion{ctx: ctx, o: o, journal: j, stream: sha256.New(), report: Report{Passed: map[string]int{}}, tasks: map[string]bool{}, seen: map[string]bool{}}
	c.recipe = fmt.Sprintf("1 form %s, %v frames a second, robot %q", cmp.Or(o.Form, Auto), o.FPS, o.Robot)
	if p := j.done(); p != nil {
		if err := p.check(ctx, c.recipe, o.Shards, out); err != nil {
			return r, err
		}
	}
	tell := func(n int64) {
		if o.Progress != nil {
			o.Progress(c.report.Frames, n, total)
		}
	}
	err = shards(ctx, o.Shards, o.Stdin, c.skips, tell, c.sample)
	if err == nil && c.sink == nil {
		err = fmt.Errorf("%s: there are no samples", strings.Join(o.Shards, ", "))
	}
	if err == nil && c.left > 0 {
		err = fmt.Errorf("%s: %d samples that were converted are not there any more; --afresh begins anew", strings.Join(o.Shards, ", "), c.left)
	}
	if err == nil {
		err = c.sink.finish()
	}
	if err != nil {
		if c.sink != nil {
			c.sink.abandon()
		}
		if p := j.done(); p != nil {
			err = &Unfinished{p.Frames, err}
		}
		return r, err
	}
	return c.done(), j.publish(out)
}

// conversion is a run of Run.
type conversion struct {
	ctx     context.Context
	o       Options
	recipe  string
	journal *journal
	sink    sink
	first   frame
	report  Report
	tasks   map[string]bool
	seen    map[string]bool // episodes

	newTasks, newSeen []string // since the last part

	now    sample    // which is converted
	joined bool      // the samples are behind what is done
	left   int       // samples of the shard that the last part ends in, which are done and have yet to pass
	stream hash.Hash // of the samples of standard input
}

// skips says whether all of a shard is done, so that none of it need be read. The first
// sample of all tells what the set is like, and is read always.
func (c *conversion) skips(shard int) bool {
	p := c.journal.done()
	return p != nil && c.sink != nil && c.o.Shards[shard] != "-" && shard < len(p.Shards)-1
}

// sample converts one sample, or passes over one that is done.
func (c *conversion) sample(s sample) error {
	passed := map[string]int{}
	f, err := s.decode(func(what string) { passed[what]++ })
	if err != nil {
		return err
	}
	if len(f.pictures) == 0 && len(f.numbers) == 0 {
		return s.errorf("it has no picture and no numbers that are read: %s", strings.Join(slices.Sorted(maps.Keys(passed)), ", "))
	}
	c.now = s
	if c.sink == nil {
		if err := c.begin(f); err != nil {
			return s.errorf("%w", err)
		}
	}
	if c.o.Shards[s.at] == "-" {
		defer ofStream(c.stream, s)
	}
	if done, err := c.isDone(s); done || err != nil {
		return err
	}
	if c.o.Form == LeRobot && f.episode == "" {
		return s.errorf(`it does not say which episode it is of: put the samples of each into a folder of the archive, or write "episode" into their JSON`)
	}
	if err := c.alike(f); err != nil {
		return s.errorf("%w", err)
	}
	if err := c.sink.add(f); err != nil {
		return s.errorf("%w", err)
	}
	c.report.Frames++
	for what, n := range passed {
		c.report.Passed[what] += n
	}
	if !c.tasks[f.task] {
		c.tasks[f.task], c.newTasks = true, append(c.newTasks, f.task)
	}
	if !c.seen[f.episode] {
		c.seen[f.episode], c.newSeen = true, append(c.newSeen, f.episode)
	}
	return nil
}

// isDone says whether a sample is in the parts that are done. What comes of standard
// input must be what came before.
func (c *conversion) isDone(s sample) (bool, error) {
	p := c.journal.done()
	if p == nil || c.report.Before == 0 {
		return false, nil
	}
	last := len(p.Shards) - 1
	if !c.joined && (s.at < last || s.at == last && s.number < p.Done) {
		if s.at == last {
			c.left = p.Done - s.number - 1
		}
		return true, nil
	}
	if !c.joined {
		if c.joined = true; !bytes.Equal(c.stream.Sum(nil), p.Hash) {
			return false, fmt.Errorf("standard input does not begin with the samples that %s holds; --afresh begins anew", c.journal.dir)
		}
	}
	return false, nil
}

// keep notes that all before the sample of now is on the disk.
func (c *conversion) keep(sink any) error {
	p := journalPart{Recipe: c.recipe, From: max(0, len(c.journal.all.Shards)-1), Done: c.now.number, Frames: c.report.Frames, Passed: maps.Clone(c.report.Passed), Tasks: c.newTasks, Seen: c.newSeen}
	c.newTasks, c.newSeen = nil, nil
	for _, name := range c.o.Shards[p.From : c.now.at+1] {
		m, err := markOf(c.ctx, name)
		if err != nil {
			return err
		}
		p.Shards = append(p.Shards, m)
	}
	p.Hash = c.stream.Sum(nil)
	var err error
	if p.Sink, err = encoded(sink); err != nil {
		return err
	}
	return c.journal.keep(p)
}

// begin chooses the form by the first frame, and goes on behind the parts that there
// are.
func (c *conversion) begin(f frame) error {
	c.first = f
	if c.o.Form = cmp.Or(c.o.Form, Auto); c.o.Form == Auto {
		if c.o.Form = Folder; f.episode != "" {
			c.o.Form = LeRobot
		}
	}
	if c.sink = newFolder(c.journal.set(), c.o, c.keep); c.o.Form == LeRobot {
		c.sink = newLeRobot(c.journal.set(), c.o, c.keep)
	}
	if err := c.sink.start(f); err != nil {
		return err
	}
	if p := c.journal.done(); p != nil {
		c.report.Frames, c.report.Before, c.report.Passed = p.Frames, p.Frames, maps.Clone(p.Passed)
		if c.report.Passed == nil {
			c.report.Passed = map[string]int{}
		}
		for _, t := range p.Tasks {
			c.tasks[t] = true
		}
		for _, e := range p.Seen {
			c.seen[e] = true
		}
		c.left = p.Done
	}
	if err := c.sink.resume(c.journal.sinks); err != nil {
		return err
	}
	return c.journal.prune(c.sink.own)
}

// alike refuses a frame that has not the first one's features and shapes.
func (c *conversion) alike(f frame) error {
	for _, name := range slices.Sorted(maps.Keys(c.first.pictures)) {
		p, ok := f.pictures[name]
		was := c.first.pictures[name]
		switch {
		case !ok:
			return fmt.Errorf("it has no picture %s, which the first sample has", name)
		case p.w != was.w || p.h != was.h:
			return fmt.Errorf("its picture %s is %d×%d, the first sample's %d×%d", name, p.w, p.h, was.w, was.h)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.first.numbers)) {
		n, ok := f.numbers[name]
		was := c.first.numbers[name]
		switch {
		case !ok:
			return fmt.Errorf("it has no %s, which the first sample has", name)
		case n.len() != was.len() || (n.whole == nil) != (was.whole == nil):
			return fmt.Errorf("its %s has %s, the first sample's %s", name, n, was)
		}
	}
	for name := range f.pictures {
		if _, ok := c.first.pictures[name]; !ok {
			return fmt.Errorf("it has a picture %s, which the first sample lacks", name)
		}
	}
	for name := range f.numbers {
		if _, ok := c.first.numbers[name]; !ok {
			return fmt.Errorf("it has %s, which the first sample lacks", name)
		}
	}
	return nil
}

func (n numbers) String() string {
	if n.whole != nil {
		return fmt.Sprintf("%d whole numbers", len(n.whole))
	}
	return fmt.Sprintf("%d numbers", len(n.floats))
}

// done is the report.
func (c *conversion) done() Report {
	r := c.report
	r.Form, r.Episodes, r.Tasks = c.o.Form, len(c.seen), len(c.tasks)
	for _, name := range slices.Sorted(maps.Keys(c.first.pictures)) {
		p := c.first.pictures[name]
		r.Features = append(r.Features, fmt.Sprintf("%s %d×%d", name, p.w, p.h))
	}
	for _, name := range slices.Sorted(maps.Keys(c.first.numbers)) {
		r.Features = append(r.Features, fmt.Sprintf("%s [%d]", name, c.first.numbers[name].len()))
	}
	return r
}
