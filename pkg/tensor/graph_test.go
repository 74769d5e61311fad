package tensor

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vlaring/vlaring/internal/philox"
)

// A graph is what the tests write computations against: once, and then run by
// the tape in float32 and by a dumb twin in float64 (twin_test.go). A name
// used again is the same input or parameter.
type graph interface {
	input(name string, shape ...int) node // its gradient is wanted
	fixed(name string, shape ...int) node // its gradient is not
	param(name string, shape ...int) leaf
	ints(name string, limit int, shape ...int) ids
	labels(name string, limit int, shape ...int) ids // as ints, but some are -1
	bytes(name string, see func(i int) bool, shape ...int) flags

	linear(x node, w, b leaf, act Activation) node
	attention(qkv node, heads int, m mask, dropout float32) node
	addNorm(x, y node, gamma, beta leaf, dropout float32) node
	dropout(x node, p float32) node
	embedding(i ids, table leaf, scale float32, pos []float32) node
	patchEmbed(img node, w, b leaf) node
	prepend(x node, cls, pos leaf) node
	addRow(x node, table leaf, row int) node
	concat(a, b node) node
	concatBytes(a, b flags) flags
	meanPool(x node, see flags) node
	lastToken(x node, see flags) node
	unit(x node) node
	selectToken(x node, i int) node
	reshape(x node, shape ...int) node
	conv(x node, w, b leaf, o Conv) node
	maxPool(x node, size, stride int) node
	spatialSoftmax(x node) node
	addPositions(x node, pos leaf) node
	lstm(x node, wih, whh, bih, bhh leaf) node
	weightedSum(l []loss, w []float64) loss
	softTargets(x, teacher node, labels ids, temperature float64) loss
	mse(x, target node) loss
	crossEntropy(x node, labels ids) loss
	policyGraph
	blockGraph
}

// A handle holds the tape's object or the twin's.
type (
	node struct {
		v *Var
		f *array
	}
	leaf struct {
		p *Param
		f *array
	}
	ids struct {
		i *Ints
		f []int32
	}
	flags struct {
		b     *Bytes
		f     []uint8
		shape []int
	}
	loss struct {
		l *Loss
		f float64
	}
	mask struct {
		causal    bool
		keys      flags
		positions []uint8
		sparse    Mask // its Window, Stride and Global
	}
)

func (n node) shape() []int {
	if n.v != nil {
		return n.v.Shape
	}
	return n.f.shape
}

const (
	testSeed = 11
	testStep = 5
)

func sampleID(s int) uint64 { return uint64(100 + 7*s) }

// draw returns n numbers in [-1, 1) that are a function of the name, or flags, 0
// or 1, where that begins with valid.
func draw(name string, n int) []float32 {
	drawn.Lock()
	defer drawn.Unlock()
	x := drawn.of[name]
	s := philox.Stream{Seed: 3, Purpose: philox.Scene, Site: nameSite(name)}
	for i := len(x); i < n; i++ {
		if strings.HasPrefix(name, "valid") {
			x = append(x, float32(s.Intn(uint32(i), 2)))
		} else {
			x = append(x, 2*s.Uniform(uint32(i))-1)
		}
	}
	drawn.of[name] = x
	return slices.Clone(x[:n])
}

// drawn is what draw has drawn so far: most graphs are run many times.
var drawn = struct {
	sync.Mutex
	of map[string][]float32
}{of: map[string][]float32{}}

func drawInts(name string, limit, n int) []int32 {
	x := make([]int32, n)
	s := philox.Stream{Seed: 4, Purpose: philox.Scene, Site: nameSite(name)}
	for i := range x {
		x[i] = int32(s.Intn(uint32(i), limit))
	}
	return x
}

func nameSite(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()
}

// tapeGraph records on a tape.
type tapeGraph struct {
	t         *Tape
	ps        *Params
	inputs    map[string]*Var
	order     []string // of inputs
	indices   map[string]*Ints
	flags     map[string]*Bytes
	noInGrads bool // inputs take no gradient
	batch     int
}

func newTapeGraph(rt *Runtime) *tapeGraph {
	ps := NewParams()
	return &tapeGraph{t: NewTape(rt, ps), ps: ps, inputs: map[string]*Var{}, indices: map[string]*Ints{}, flags: map[string]*Bytes{}}
}

func (g *tapeGraph) input(name string, shape ...int) node {
	known := g.inputs[name] != nil
	n := g.fixed(name, shape...)
	if !known && !g.noInGrads && !g.t.forward {
		g.t.NeedGrad(n.v)
	}
	return n
}

func (g *tapeGraph) fixed(name string, shape ...int) node {
	if g.inputs[name] == nil {
		g.inputs[name] = g.t.Input(shape...)
		g.order = append(g.order, name)
		g.batch = max(g.batch, shape[0])
	}
	return node{v: g.inputs[name]}
}

func (g *tapeGraph) param(name string, shape ...int) leaf {
	if p := g.ps.ByName(name); p != nil {
		return leaf{p: p}
	}
	return leaf{p: g.ps.Add(name, shape...)}
}

func (g *tapeGraph) labels(name string, limit int, shape ...int) ids {
	n := g.ints(name, limit+1, shape...)
	for i := range n.i.Data {
		n.i.Data[i]--
	}
	return n
}

func (g *tapeGraph) ints(name string, limit int, shape ...int) ids {
	if g.indices[name] == nil {
		i := g.t.Ints(shape...)
		copy(i.Data, drawInts(name, limit, len(i.Data)))
		g.indices[name] = i
		g.batch = max(g.batch, shape[0])
	}
	return ids{i: g.indices[name]}
}

func (g *tapeGraph) bytes(name string, see func(int) bool, shape ...int) flags {
	if g.flags[name] == nil {
		b := g.t.Bytes(shape...)
		copy(b.Data, seen(see, size(shape)))
		g.flags[name] = b
	}
	return flags{b: g.flags[name], shape: shape}
}

func seen(see func(int) bool, n int) []uint8 {
	b := make([]uint8, n)
	for i := range b {
		if see(i) {
			b[i] = 1
		}
	}
	return b
}

func (g *tapeGraph) linear(x node, w, b leaf, act Activation) node {
	return node{v: g.t.Linear(x.v, w.p, b.p, act)}
}
func (g *tapeGraph) attention(qkv node, heads int, m mask, p float32) node {
	return node{v: g.t.Attention(qkv.v, heads, Mask{Causal: m.causal, Keys: m.keys.b, Positions: m.positions, Window: m.sparse.Window, Stride: m.sparse.Stride, Global: m.sparse.Global}, p)}
}
func (g *tapeGraph) addNorm(x, y node, gamma, beta leaf, p float32) node {
	return node{v: g.t.AddNorm(x.v, y.v, gamma.p, beta.p, p)}
}
func (g *tapeGraph) dropout(x node, p float32) node { return node{v: g.t.Dropout(x.v, p)} }
func (g *tapeGraph) embedding(i ids, table leaf, scale float32, pos []float32) node {
	return node{v: g.t.Embedding(i.i, table.p, scale, pos)}
}
func (g *tapeGraph) patchEmbed(img node, w, b leaf) node {
	return node{v: g.t.PatchEmbed(img.v, w.p, b.p)}
}
func (g *tapeGraph) prepend(x node, cls, pos leaf) node {
	return node{v: g.t.PrependToken(x.v, cls.p, pos.p)}
}
func (g *tapeGraph) addRow(x node, table leaf, row int) node {
	return node{v: g.t.AddRow(x.v, table.p, row)}
}
func (g *tapeGraph) concat(a, b node) node { return node{v: g.t.ConcatTokens(a.v, b.v)} }
func (g *tapeGraph) concatBytes(a, b flags) flags {
	f := g.t.ConcatBytes(a.b, b.b)
	return flags{b: f, shape: f.Shape}
}
func (g *tapeGraph) meanPool(x node, see flags) node   { return node{v: g.t.MeanPool(x.v, see.b)} }
func (g *tapeGraph) lastToken(x node, see flags) node  { return node{v: g.t.LastToken(x.v, see.b)} }
func (g *tapeGraph) unit(x node) node                  { return node{v: g.t.Unit(x.v)} }
func (g *tapeGraph) selectToken(x node, i int) node    { return node{v: g.t.SelectToken(x.v, i)} }
func (g *tapeGraph) reshape(x node, shape ...int) node { return node{v: g.t.Reshape(x.v, shape...)} }
func (g *tapeGraph) mse(x, target node) loss           { return loss{l: g.t.MSE(x.v, target.v)} }
func (g *tapeGraph) crossEntropy(x node, i ids) loss {
	return loss{l: g.t.CrossEntropy(x.v, i.i)}
}

// result is what a tape computed: everything that somebody may read.
type result struct {
	loss   float64
	out    []float32
	inputs map[string][]float32 // gradients
	params map[string][]float32 // gradients
}

// seal binds memory and fills values; grads is the slab of gradients.
func (g *tapeGraph) seal() (grads []float32) {
	g.ps.Seal()
	g.t.Seal()
	for name, v := range g.inputs {
		copy(v.Data, draw(name, v.Size()))
	}
	for _, p := range g.ps.List() {
		copy(p.Value, draw(p.Name, p.Size()))
	}
	grads = make([]float32, g.ps.Len())
	for _, p := range g.ps.List() { // what an earlier step left; gaps are ours to keep zero
		for i := range p.Size() {
			grads[p.Offset+i] = float32(math.NaN())
		}
	}
	g.ps.BindGrads(grads)
	sampleIDs := make([]uint64, g.batch)
	for s := range sampleIDs {
		sampleIDs[s] = sampleID(s)
	}
	g.t.SetStep(testSeed, testStep, sampleIDs, true)
	return grads
}

// runTape computes a case on a tape with fresh memory, twice: the second replay
// finds the first one's leftovers, and the bits must not care.
func runTape(t *testing.T, rt *Runtime, f func(graph) (node, loss), inGrads bool) *result {
	t.Helper()
	g := newTapeGraph(rt)
	g.noInGrads = !inGrads
	out, l := f(g)
	grads := g.seal()
	defer g.t.Close()
	var first *result
	for range 2 {
		g.t.Forward()
		g.t.Backward(l.l)
		r := &result{loss: l.l.Scaled(), out: slices.Clone(out.v.Data), inputs: map[string][]float32{}, params: map[string][]float32{}}
		for _, name := range g.order {
			if v := g.inputs[name]; v.Grad != nil {
				r.inputs[name] = slices.Clone(v.Grad)
			}
		}
		for _, p := range g.ps.List() {
			r.params[p.Name] = slices.Clone(p.Grad)
		}
		if first == nil {
			first = r
		} else if d := first.differs(r); d != "" {
			t.Errorf("a second replay differs in %s", d)
		}
	}
	at := 0
	for i := len(g.ps.List()) - 1; i >= 0; i-- {
		p := g.ps.List()[i]
		for _, x := range grads[at:p.Offset] {
			if math.Float32bits(x) != 0 {
				t.Errorf("the gap before %s is not zero", p.Name)
			}
		}
		at = p.Offset + p.Size()
	}
	return first
}

// differs names the first part that is not bit for bit the same, "" for none.
func (r *result) differs(o *result) string {
	if math.Float64bits(r.loss) != math.Float64bits(o.loss) {
		return fmt.Sprintf("the loss: %v, %v", r.loss, o.loss)
	}
	if d := differ(r.out, o.out); d != "" {
		return "the output " + d
	}
	for name, x := range r.inputs {
		if d := differ(x, o.inputs[name]); d != "" {
			return "the gradient of input " + name + d
		}
	}
	for name, x := range r.params {
		if d := differ(x, o.params[name]); d != "" {
			return "the gradient of " + name + d
		}
	}
	return ""
}

func differ(a, b []float32) string {
	if len(a) != len(b) {
		return fmt.Sprintf(" in length: %d, %d", len(a), len(b))
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return fmt.Sprintf("[%d]: %x, %x", i, a[i], b[i])
		}
	}
	return ""
}

// withLevel runs f at a CPU level.
func withLevel(t testing.TB, level string, f func()) {
	t.Helper()
	before := CPULevel()
	if err := SetCPU(level); err != nil {
		t.Fatal(err)
	}
	defer SetCPU(before)
	f()
}
