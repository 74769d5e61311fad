package attention

import (
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"math"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// ErrNone is what of a model without heads there is to see.
var ErrNone = errors.New("no attention to look at")

// Subject is whose heads are looked at.
type Subject struct {
	Checkpoint string // its directory, as reports name it
	Step       uint64
	Model      *models.Model
	Meta       data.Meta // of the data that it was trained on
}

// Look runs the model, without dropout, on b, of the shapes of spec, and takes
// the heads apart as they see its first sample.
func Look(rt *tensor.Runtime, t Subject, b *models.Batch, spec models.Spec) (*Report, error) {
	prog, err := t.Model.Program(rt, b.N, spec, models.ProgramOptions{KeepAttention: true, Forward: true})
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	if err := prog.Load(b); err != nil {
		return nil, err
	}
	prog.SetStep(0, 0, false)
	prog.Forward()
	return newReport(&t, b, spec, prog.Attention())
}

// Report is where the heads of a checkpoint look, for one input.
type Report struct {
	Checkpoint string           `json:"checkpoint"`
	Step       uint64           `json:"step"`
	Kind       string           `json:"kind"`
	Tokens     []int32          `json:"tokens,omitempty"`
	Layers     []Layer          `json:"layers"`
	Rollout    []Rollout        `json:"rollout"`            // one a stack
	LeftOut    string           `json:"left_out,omitempty"` // what of the model looks somewhere and is not shown
	photo      image.Image      // the picture as the model sees it; nil: none
	stacks     map[string]stack // by name
}

// stack is a run of layers over the same positions, such as the vision encoder.
//
//	vision encoder   cls, patches          grid = patches a side, first = 1
//	tokens           words or numbers      grid = 0
//	fusion           image or patches, then words
type stack struct {
	name    string
	labels  []string
	visible []bool // not padding
	grid    int    // patches a side; 0: the stack has no patches
	first   int    // position of the first patch
	side    int    // pixels of a patch
}

// Layer is one layer's heads.
type Layer struct {
	Name      string   `json:"name"`
	Stack     string   `json:"stack"`
	Positions []string `json:"positions"`
	Visible   []bool   `json:"visible"`
	Heads     []Head   `json:"heads"`
}

// Head is where one head looks.
type Head struct {
	Head         int       `json:"head"`
	LooksAt      []int     `json:"looks_at"`      // [query] the key with the greatest weight; -1: sees nothing
	Entropy      []float64 `json:"entropy"`       // [query] nats
	MeanEntropy  float64   `json:"mean_entropy"`  // over visible queries
	Distance     *float64  `json:"distance"`      // mean over visible queries; null in a fusion, whose positions have no common measure
	DistanceUnit string    `json:"distance_unit"` // pixels between patches, or tokens
	Weights      Matrix    `json:"weights"`       // [query][key]
}

// Rollout is what the results of a stack are made of: the attention of all its
// layers and their residual path multiplied out.
type Rollout struct {
	Stack     string   `json:"stack"`
	Positions []string `json:"positions"`
	Weights   Matrix   `json:"weights"` // [result][position]: what each result is made of
}

// Matrix is a square matrix, row by row; JSON has it as a list of rows.
type Matrix []float32

func (m Matrix) n() int { return int(math.Sqrt(float64(len(m))) + 0.5) }

func (m Matrix) MarshalJSON() ([]byte, error) {
	n := m.n()
	rows := make([][]float32, n)
	for q := range rows {
		rows[q] = m[q*n : (q+1)*n]
	}
	return json.Marshal(rows)
}

func (m *Matrix) UnmarshalJSON(b []byte) error {
	var rows [][]float32
	if err := json.Unmarshal(b, &rows); err != nil {
		return err
	}
	*m = nil
	for _, r := range rows {
		*m = append(*m, r...)
	}
	return nil
}

// stackOf is the part of a block's name before the blocks' own, and the view that
// the stack looks at, where that is not the first.
func stackOf(name string) string {
	s, block, _ := strings.Cut(name, "blocks.") // a pretrained encoder's are not called transformer_blocks
	if s = strings.TrimSuffix(strings.TrimSuffix(s, "transformer_"), "."); s == "" {
		s = "transformer_blocks"
	}
	if _, view, ok := strings.Cut(block, "@"); ok {
		s += "@" + view
	}
	return s
}

func newReport(t *Subject, b *models.Batch, spec models.Spec, layers []models.LayerAttention) (*Report, error) {
	kind := t.Model.Options().Name()
	if len(layers) == 0 {
		return nil, fmt.Errorf("a model of kind %s has %w", kind, ErrNone)
	}
	r := &Report{Checkpoint: t.Checkpoint, Step: t.Step, Kind: kind, stacks: map[string]stack{}}
	if c, ok := t.Model.Options().(models.Config); ok && c.Decoding().Width > 0 {
		r.LeftOut = "the decoder of model.fusion cross is not shown: its maps are not of one sequence"
	}
	if n := spec.Len(models.Instruction, 0); n > 0 {
		r.Tokens = b.Ints(models.Instruction)[:n]
	}
	if f := spec.Find(models.Images); f != nil {
		r.photo = data.Photo(t.Meta, f.Shape, b.Floats(models.Images)[:f.Size()])
	}
	var run []models.LayerAttention // the stack being collected
	flush := func() {
		if len(run) > 0 {
			s := r.stacks[stackOf(run[0].Name)]
			r.Rollout = append(r.Rollout, Rollout{Stack: s.name, Positions: s.labels, Weights: models.Rollout(run, 0)})
			run = nil
		}
	}
	for _, l := range layers {
		name := stackOf(l.Name)
		if len(run) > 0 && stackOf(run[0].Name) != name {
			flush()
		}
		s, ok := r.stacks[name]
		if !ok {
			s = newStack(name, l.T, t, r.Tokens, spec)
			r.stacks[name] = s
		}
		run = append(run, l)
		r.Layers = append(r.Layers, layerOf(l, s))
	}
	flush()
	return r, nil
}

// registers is how many tokens a pretrained encoder of pictures has before its patches: its
// class token and its registers. 0: it has none, or is this program's.
func registers(c models.Config) int {
	b := c.Vision.Backbone
	switch {
	case b == nil:
		return 0
	case b.Class:
		return 1 + b.Registers
	}
	return b.Registers
}

// newStack names the positions of a stack of n.
func newStack(name string, n int, t *Subject, tokens []int32, spec models.Spec) stack {
	cfg, _ := t.Model.Options().(models.Config) // of another kind nothing is known but the words
	pad := t.Model.Options().Padding()
	s := stack{name: name}
	add := func(label string, visible bool) {
		s.labels, s.visible = append(s.labels, label), append(s.visible, visible)
	}
	words, sentence := tokens, false
	switch {
	case cfg.Kind == models.CrossModal:
		for i := range n {
			if v := spec.Len(models.VisionFeatures, 0); i < v {
				add(fmt.Sprintf("vision %d", i), true)
			} else {
				add(fmt.Sprintf("language %d", i-v), true)
			}
		}
		return s
	case cfg.Kind == models.ViT || n != len(tokens) || strings.HasPrefix(name, "vision") || cfg.Language.Pooled() && strings.HasPrefix(name, "cross_modal_fusion"): // begins with the image
		image := n - len(words)
		switch {
		case cfg.Kind == models.ViT || strings.HasPrefix(name, "vision"):
			words, image = nil, n
		case cfg.Language.Pooled():
			words, image, sentence = nil, n-1, true
		}
		if p := cfg.ImageSize / max(cfg.PatchSize, 1); p > 0 && (image == p*p || image == p*p+1 || image == p*p+registers(cfg)) {
			s.grid, s.first, s.side = p, image-p*p, cfg.PatchSize
		}
		for i := range image {
			switch {
			case s.grid == 0:
				add("image", true)
			case i == 0 && s.first > 0 && (cfg.Vision.Backbone == nil || cfg.Vision.Backbone.Class):
				add("cls", true)
			case i < s.first:
				add(fmt.Sprintf("register %d", i), true)
			default:
				add(fmt.Sprintf("%d,%d", (i-s.first)/s.grid, (i-s.first)%s.grid), true)
			}
		}
	}
	if sentence {
		add("sentence", true)
	}
	lexicon := t.Meta.Lexicon()
	seen := make([]uint8, len(words))
	models.Visible(seen, words, max(len(words), 1), t.Model.Options())
	for i, id := range words {
		label, visible := strconv.Itoa(int(id)), seen[i] != 0
		switch {
		case int(id) == pad && visible: // model.pad_ends
			label = "end"
		case int(id) == pad:
			label = "pad"
		case int(id) < len(lexicon):
			label = lexicon[id]
		}
		add(label, visible)
	}
	return s
}

// patch reports whether position i is a patch, and where.
func (s stack) patch(i int) (row, col int, ok bool) {
	i -= s.first
	if s.grid == 0 || i < 0 || i >= s.grid*s.grid {
		return 0, 0, false
	}
	return i / s.grid, i % s.grid, true
}

// measure is the distance between two positions, negative where there is none,
// and its unit; nil where positions of two kinds stand in one row.
func (s stack) measure() (between func(q, k int) float64, unit string) {
	patches := 0
	if s.grid > 0 {
		patches = s.grid * s.grid
	}
	switch {
	case patches > 0 && len(s.labels) <= patches+1: // a vision encoder
		return func(q, k int) float64 {
			y0, x0, a := s.patch(q)
			y1, x1, b := s.patch(k)
			if !a || !b {
				return -1
			}
			return float64(s.side) * math.Hypot(float64(y0-y1), float64(x0-x1))
		}, "pixels"
	case patches > 0 || s.labels[0] == "image" || s.labels[0] == "vision 0":
		return nil, ""
	}
	return func(q, k int) float64 {
		if !s.visible[q] || !s.visible[k] {
			return -1
		}
		return math.Abs(float64(q - k))
	}, "tokens"
}

func layerOf(l models.LayerAttention, s stack) Layer {
	out := Layer{Name: l.Name, Stack: s.name, Positions: s.labels, Visible: s.visible}
	between, unit := s.measure()
	for h := range l.H {
		w := l.Head(0, h)
		r := Head{Head: h, LooksAt: models.LooksAt(w, l.T), Entropy: models.Entropy(w, l.T), DistanceUnit: unit, Weights: append(Matrix(nil), w...)}
		r.MeanEntropy = meanOf(r.Entropy, s.visible)
		if between != nil {
			if d := meanOf(models.Distance(w, l.T, between), s.visible); !math.IsNaN(d) {
				r.Distance = &d
			}
		}
		out.Heads = append(out.Heads, r)
	}
	return out
}

// meanOf is the mean of those values that are visible and numbers.
func meanOf(v []float64, visible []bool) float64 {
	sum, n := 0.0, 0
	for i, x := range v {
		if visible[i] && !math.IsNaN(x) {
			sum, n = sum+x, n+1
		}
	}
	return sum / float64(n)
}

// readOut is the row of a stack's rollout that the model goes on with: the
// class token's, or the mean of the visible ones.
func (r *Report) readOut(s Rollout) (row []float32, how string) {
	n, st := len(s.Positions), r.stacks[s.Stack]
	if s.Positions[0] == "cls" && n == st.grid*st.grid+st.first {
		return s.Weights[:n], "class token"
	}
	return meanRows(s.Weights, n, st.visible), "mean of positions"
}

// meanRows is the mean of the rows of an [n, n] matrix that are in.
func meanRows(m []float32, n int, in []bool) []float32 {
	out, rows := make([]float32, n), 0
	for q := range n {
		if in[q] {
			rows++
			for k, v := range m[q*n : (q+1)*n] {
				out[k] += v
			}
		}
	}
	for k := range out {
		out[k] /= float32(max(rows, 1))
	}
	return out
}
