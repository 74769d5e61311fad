package page

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"math"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vlaring/vlaring/internal/attention"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/trained"
)

const (
	maxLooked  = 2 << 30 // bytes of a checkpoint that is opened for samples
	keptLooks  = 64      // answers
	waitLooks  = 8       // questions that may wait
	maxPicture = 1 << 20 // pixels of a picture that is shown
)

// looker asks checkpoints about samples of the held-out split, one question at a time
// on one thread of low priority: a training may go on beside it. It keeps the newest
// checkpoint open, and the newest answers.
type looker struct {
	kinds job.Kinds
	scans *data.ScanDir
	asks  chan func()
	quit  chan struct{}

	mu    sync.Mutex
	kept  map[string]json.RawMessage
	order []string
	ended bool

	open   *trained.Checkpoint // of the looker's goroutine, as all below
	of     string
	failed struct {
		of, why string
		at      time.Time
	}
	src   data.Source
	split string
	rt    *tensor.Runtime
}

func newLooker(kinds job.Kinds, scans *data.ScanDir) *looker {
	return &looker{kinds: kinds, scans: scans, quit: make(chan struct{}), kept: map[string]json.RawMessage{}}
}

// start begins the goroutine, when there is a first question.
func (l *looker) start() {
	l.asks = make(chan func(), waitLooks)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its priority with it
		run.LowPriority()
		l.rt = tensor.NewRuntime(1)
		defer l.rt.Close()
		defer l.drop()
		for {
			select {
			case ask := <-l.asks:
				ask()
			case <-l.quit:
				return
			}
		}
	}()
}

// close has the looker end behind the question that it is at, and does not wait for
// that: opening data may take long, and the program may end without it.
func (l *looker) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.quit)
	}
}

func (l *looker) drop() {
	if l.open != nil {
		l.open.Close()
	}
	l.open, l.of = nil, ""
}

// shown is a sample with what a checkpoint makes of it.
type shown struct {
	Problem string `json:"problem,omitempty"` // why there is nothing to see
	Step    uint64 `json:"step"`
	Weights string `json:"weights,omitempty"`
	Sample  int    `json:"sample"`
	Of      int    `json:"of"` // samples of the split
	Split   string `json:"split"`
	Origin  string `json:"origin"`
	Words   string `json:"words,omitempty"` // the instruction, as the vocabulary has it

	Dims      []dimension `json:"dims"`
	True      [][]number  `json:"true"`      // [chunk][dimension], in physical units
	Predicted [][]number  `json:"predicted"` // the same
	Valid     []bool      `json:"valid"`     // of the chunk: before the episode's end
	State     []number    `json:"state,omitempty"`
	StateDims []dimension `json:"state_dims,omitempty"`
	Plane     *plane      `json:"plane,omitempty"`
	Pictures  []seen      `json:"pictures"`
	Attention string      `json:"attention,omitempty"` // why there is none, or what it leaves out
}

type dimension struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	Std  number `json:"std"` // of the training split
}

// plane says which dimensions of an action are its way over the table, and from where
// they count: nowhere, where actions are steps, or the training mean of positions.
type plane struct {
	X     int     `json:"x"`
	Y     int     `json:"y"`
	FromX number  `json:"from_x"`
	FromY number  `json:"from_y"`
	Std   float64 `json:"std"`
}

// seen is a picture as the model sees it, with how much of the result each patch is.
type seen struct {
	Name string   `json:"name"`
	PNG  string   `json:"png"` // base64
	W    int      `json:"w"`
	H    int      `json:"h"`
	Side int      `json:"side,omitempty"` // patches a side
	Map  []number `json:"map,omitempty"`  // [side·side], of their sum

	// Where the gripper comes to by the true and by the predicted actions, seen by this
	// camera, in shares of width and height; none where nobody knows where the camera stands.
	True      [][2]float64 `json:"true,omitempty"`
	Predicted [][2]float64 `json:"predicted,omitempty"`
}

var errEnded = errors.New("the page ends")

var errBusy = errors.New("other questions wait already: ask again in a moment")

// sample answers of sample i by the checkpoint of step, or by the newest of all where
// that is 0.
func (l *looker) sample(ctx context.Context, s spot, step uint64, i int) (json.RawMessage, error) {
	root, err := s.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name := filepath.Join("checkpoints", checkpoint.DirName(step))
	if _, err := root.Stat(name); err != nil {
		return json.Marshal(shown{Problem: "the checkpoint of step " + fmt.Sprint(step) + " is not in the run's directory (any more)"})
	}
	var base string
	if b, err := readIn(root, run.OriginFile, 1<<20); err == nil {
		var o run.Origin
		if json.Unmarshal(b, &o) == nil {
			base = o.BaseDir
		}
	}
	dir := filepath.Join(s.path(), name)
	m, err := checkpoint.ReadManifest(dir)
	if err != nil {
		return json.Marshal(shown{Problem: err.Error()})
	}
	if m.Bytes() > maxLooked {
		return json.Marshal(shown{Problem: fmt.Sprintf("the checkpoint has %s, and the page opens at most %s: coordinator attention and predict do it by themselves", plain.Bytes(m.Bytes()), plain.Bytes(maxLooked))})
	}
	of := dir + m.Created.String()
	key := fmt.Sprint(of, " ", i)
	l.mu.Lock()
	b, had := l.kept[key]
	if !had && !l.ended && l.asks == nil {
		l.start()
	}
	asks, ended := l.asks, l.ended
	l.mu.Unlock()
	switch {
	case had:
		return b, nil
	case ended:
		return nil, errEnded
	}
	type result struct {
		b   json.RawMessage
		err error
	}
	answer := make(chan result, 1)
	select {
	case asks <- func() {
		if ctx.Err() != nil { // who asked has gone
			return
		}
		x := l.look(of, dir, base, i)
		b, err := json.Marshal(x)
		if err == nil && x.Problem == "" {
			l.keep(key, b)
		}
		answer <- result{b, err}
	}:
	default:
		return nil, errBusy
	}
	select {
	case r := <-answer:
		return r.b, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.quit:
		return nil, errEnded
	}
}

func (l *looker) keep(key string, b json.RawMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept[key] = b
	l.order = append(l.order, key)
	if len(l.order) > keptLooks {
		delete(l.kept, l.order[0])
		l.order = l.order[1:]
	}
}

// look is of the looker's goroutine, as all below. A panic is an answer, too: the
// training beside the page has nothing to do with it.
func (l *looker) look(of, dir, base string, i int) (x shown) {
	defer func() {
		if p := recover(); p != nil {
			l.drop()
			x = shown{Problem: plain.Line(fmt.Sprint("this checkpoint and sample do not go together: ", p), maxText)}
		}
	}()
	if l.failed.of == of && time.Since(l.failed.at) < 20*time.Second { // it costs a whole checkpoint to see it again
		return shown{Problem: l.failed.why}
	}
	if err := l.take(of, dir, base); err != nil {
		l.drop()
		l.failed.of, l.failed.why, l.failed.at = of, plain.Text(err.Error()), time.Now()
		return shown{Problem: l.failed.why}
	}
	if i >= l.src.Len() {
		i = l.src.Len() - 1
	}
	x, err := l.ask(i)
	if err != nil {
		return shown{Problem: err.Error()}
	}
	return x
}

// take opens a checkpoint and its data, unless they are.
func (l *looker) take(of, dir, base string) (err error) {
	if l.of == of {
		return nil
	}
	l.drop()
	c, err := trained.Open(dir, l.kinds)
	if err != nil {
		return err
	}
	l.open = c
	if c.Model.Options().Answers() == models.Tokens {
		return errors.New("the model answers with tokens; samples are shown of models that answer with actions")
	}
	if err := c.OpenData(base, "", l.scans); err != nil {
		return fmt.Errorf("the data that it was trained on is not at hand: %w", err)
	}
	if l.src, l.split, err = c.Source("heldout"); err != nil {
		if l.src, l.split, err = c.Source("train"); err != nil {
			return err
		}
	}
	l.of = of
	return nil
}

func (l *looker) ask(i int) (x shown, err error) {
	c := l.open
	s, err := l.src.Sample(i)
	if err != nil {
		return x, err
	}
	meta := c.Meta
	if len(meta.Sets) > 0 {
		meta = meta.In(s.Set)
	}
	col, err := data.NewCollator(c.Meta)
	if err != nil {
		return x, err
	}
	b := models.NewBatch(1, c.Meta.Spec)
	if err := col.Collate([]data.Sample{s}, b); err != nil {
		return x, err
	}
	x = shown{Step: c.Step, Weights: c.Weights, Sample: i, Of: l.src.Len(), Split: l.split, Origin: plain.Line(s.Origin, 300), Words: wordsOf(b, &meta)}
	stats, at := meta.StatsOf(models.Actions), meta.Spec.Index(models.Actions)
	if stats == nil || at < 0 || stats.Dim() == 0 {
		return x, errors.New("the data has no statistics of actions")
	}
	out, err := c.Predict(l.rt, b)
	if err != nil {
		return x, err
	}
	n := stats.Dim()
	predicted, is := out[0].Data.([]float32)
	if !is {
		return x, errors.New("the model answers with no numbers")
	}
	for v := predicted; len(v) >= n; v = v[n:] {
		stats.Denormalize(v[:n], v[:n])
	}
	now := meta.Now(&s)
	stats.Absolute(predicted, predicted, now)
	x.Dims, x.True, x.Predicted = dimensions(stats), rows(s.Values[at].Floats, n), rows(predicted, n)
	valid := b.Floats(models.Valid)
	for k := range x.True {
		x.Valid = append(x.Valid, k >= len(valid) || valid[k] != 0)
	}
	if state := meta.StatsOf(models.State); state != nil && now != nil {
		x.StateDims, x.State = dimensions(state), rows(now, len(now))[0]
	}
	x.Plane = planeOf(stats)
	return x, l.pictures(&x, b, &s)
}

func dimensions(s *data.Stats) (out []dimension) {
	for d := range s.Dim() {
		x := dimension{Name: fmt.Sprint("a", d)}
		if d < len(s.Names) {
			x.Name = plain.Line(s.Names[d], 60)
		}
		if d < len(s.Units) {
			x.Unit = plain.Line(s.Units[d], 20)
		}
		if d < len(s.Std) {
			x.Std = number(s.Std[d])
		}
		out = append(out, x)
	}
	return out
}

func rows(v []float32, n int) (out [][]number) {
	for ; len(v) >= n && n > 0; v = v[n:] {
		row := make([]number, n)
		for d := range row {
			row[d] = number(v[d])
		}
		out = append(out, row)
	}
	return out
}

// wordsOf is a sample's instruction.
func wordsOf(b *models.Batch, meta *data.Meta) string {
	vocab, pad := meta.Lexicon(), meta.Padding()
	var words []string
	for _, id := range b.Ints(models.Instruction) {
		switch {
		case id == pad && len(vocab) > 0:
		case int(id) < len(vocab):
			words = append(words, vocab[id])
		default:
			words = append(words, fmt.Sprint(id))
		}
	}
	return plain.Line(strings.Join(words, " "), 1000)
}

// planeOf finds dimensions called x and y.
func planeOf(s *data.Stats) *plane {
	at := func(name string) int {
		return slices.IndexFunc(s.Names, func(n string) bool {
			n = strings.ToLower(n)
			return n == name || n == "d"+name || n == "delta_"+name || n == "pos_"+name || n == "ee_"+name || n == "motor_"+name
		})
	}
	p := &plane{X: at("x"), Y: at("y")}
	if p.X < 0 || p.Y < 0 || p.X >= len(s.Std) || p.Y >= len(s.Std) {
		return nil
	}
	p.Std = math.Hypot(s.Std[p.X], s.Std[p.Y])
	if math.Hypot(s.Mean[p.X], s.Mean[p.Y]) > p.Std { // positions: steps go to and fro
		p.FromX, p.FromY = number(s.Mean[p.X]), number(s.Mean[p.Y])
	}
	return p
}

var patchName = regexp.MustCompile(`^\d+,\d+$`)

// ways are those of a picture of x, a sample whose present it shows.
func (x *shown) ways(p *seen, sight *data.Sight, camera int, id uint64) {
	actions := func(rows [][]number) (l [][]float32) {
		for i, row := range rows {
			if i < len(x.Valid) && !x.Valid[i] {
				break
			}
			a := make([]float32, len(row))
			for d := range a {
				a[d] = float32(row[d])
			}
			l = append(l, a)
		}
		return l
	}
	from := sight.Gripper(id)
	p.True, p.Predicted = sight.Way(camera, from, actions(x.True)), sight.Way(camera, from, actions(x.Predicted))
}

// pictures adds what the model sees of s, and where it looks.
func (l *looker) pictures(x *shown, b *models.Batch, s *data.Sample) error {
	c := l.open
	sight := data.SightOf(c.Job.Data.Options, c.Job.Seed)
	maps := map[string][]number{} // by view
	rep, err := attention.Look(l.rt, attention.Subject{Checkpoint: c.Dir, Step: c.Step, Model: c.Model, Meta: c.Meta}, b, b.Spec)
	if err != nil {
		x.Attention = err.Error()
	} else {
		x.Attention = rep.LeftOut
		for _, r := range rep.Rollout {
			view := models.Images
			if _, v, of := strings.Cut(r.Stack, "@"); of {
				view = v
			}
			if m := patchesOf(r); m != nil && maps[view] == nil {
				maps[view] = m
			}
		}
	}
	for _, f := range b.Spec.Inputs() {
		camera, past, ok := models.ViewOf(f.Name)
		if !ok || len(f.Shape) != 3 || f.Shape[1]*f.Shape[2] > maxPicture {
			continue
		}
		var buf bytes.Buffer
		if err := png.Encode(&buf, data.Photo(c.Meta, f.Shape, b.Floats(f.Name)[:f.Size()])); err != nil {
			return err
		}
		p := seen{Name: plain.Line(f.Called(), 100), PNG: base64.StdEncoding.EncodeToString(buf.Bytes()), H: f.Shape[1], W: f.Shape[2], Map: maps[f.Name]}
		if p.Map != nil {
			p.Side = int(math.Sqrt(float64(len(p.Map))) + 0.5)
		}
		if sight != nil && past == 0 {
			x.ways(&p, sight, camera, s.ID)
		}
		x.Pictures = append(x.Pictures, p)
	}
	return nil
}

// patchesOf is how much of a stack's result each patch of its picture is: of the class
// token's, or of the mean over positions that are no patches, or over all. Nil: it has
// no patches.
func patchesOf(r attention.Rollout) []number {
	n := len(r.Positions)
	var patches, lookers []int
	for i, name := range r.Positions {
		if patchName.MatchString(name) {
			patches = append(patches, i)
		} else if name != "pad" {
			lookers = append(lookers, i)
		}
	}
	if len(patches) < 4 || len(r.Weights) != n*n {
		return nil
	}
	switch {
	case r.Positions[0] == "cls":
		lookers = lookers[:1]
	case len(lookers) == 0:
		lookers = patches
	}
	out, sum := make([]number, len(patches)), number(0)
	for k, p := range patches {
		for _, q := range lookers {
			out[k] += number(r.Weights[q*n+p])
		}
		sum += out[k]
	}
	for k := range out {
		out[k] /= max(sum, 1e-30)
	}
	return out
}
