package pretrained

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/weights"
)

// Role is what an encoder reads.
type Role int

const (
	Pictures Role = iota
	Words
)

func (r Role) String() string {
	if r == Words {
		return "words"
	}
	return "pictures"
}

// family is a way to write an encoder: names, and what follows from them.
type family struct {
	name  string
	about string
	role  Role
	types []string // of config.json's model_type; nil: it has none
	part  string   // the section of config.json that is of this encoder, where it is one of several
	mark  string   // a tensor that every file of the family has
	names []names
	drop  []string // tensors that have no part in the features: patterns in which * is any text
	needs []string // tensors that tell it from others, beside those of names that cannot be left out

	base     models.Backbone // what all of the family have, and what config.json leaves out
	heads    int             // where config.json is there and does not say it; 0: it must
	keys     keys
	resample weights.Resampling // of positions
	settle   func(s *sight) error

	kind, class string // model_type and architectures of what is written; class empty: it is not
}

// names is a row of a family's table. ours is a parameter without its kind, weight
// or bias, or whole where it has none; each of theirs is a way to write it: the
// parts of a packed one, each a tensor without its kind, or whole behind a "=".
// # is the number of the block.
type names struct {
	ours   string
	theirs [][]string
}

// row makes a row of which there is one way, or several with | between them, and in
// each way one part, or several with + between them.
func row(ours, theirs string) names {
	n := names{ours: ours}
	for _, way := range strings.Split(theirs, "|") {
		n.theirs = append(n.theirs, strings.Split(way, "+"))
	}
	return n
}

// keys are what config.json calls sizes; empty: it does not say.
type keys struct {
	width, layers, heads, groups, head, hidden, eps, activation, patch, side, channels, vocab, positions, types string
}

// usual are the keys of most of transformers' encoders.
var usual = keys{width: "hidden_size", layers: "num_hidden_layers", heads: "num_attention_heads", hidden: "intermediate_size", eps: "layer_norm_eps", activation: "hidden_act",
	patch: "patch_size", side: "image_size", channels: "num_channels", vocab: "vocab_size", positions: "max_position_embeddings"}

// families lists what is recognised.
func families() []family {
	return []family{timm(), hub(), dinov2(), siglip(), siglip2(), clipVision(), bert(), clipText(), siglipText(), t5(), llama()}
}

// split takes a parameter's name, without the encoder's prefix, apart: its block,
// -1 where it is of none, and its kind, empty where it has none.
func split(name string) (stem string, block int, kind string) {
	block = -1
	if rest, ok := strings.CutPrefix(name, "blocks."); ok {
		n, rest, _ := strings.Cut(rest, ".")
		block, _ = strconv.Atoi(n)
		name = "blocks.#." + rest
	}
	for _, k := range []string{"weight", "bias"} {
		if s, ok := strings.CutSuffix(name, "."+k); ok {
			return s, block, k
		}
		if s, ok := strings.CutSuffix(name, "_"+k); ok { // in_proj_weight
			return s, block, k
		}
	}
	return name, block, ""
}

// tensor is what a part of theirs is called in a file, of a block and a kind.
func tensorName(part string, block int, kind string) string {
	part, whole := strings.CutPrefix(part, "=")
	if block >= 0 {
		part = strings.Replace(part, "#", strconv.Itoa(block), 1)
	}
	if whole || kind == "" {
		return part
	}
	return part + "." + kind
}

// find is the row of a stem.
func (f *family) find(stem string) (names, bool) {
	i := slices.IndexFunc(f.names, func(n names) bool { return n.ours == stem })
	if i < 0 {
		return names{}, false
	}
	return f.names[i], true
}

// sight is a file that is looked at as one of a family.
type sight struct {
	*family
	file    *safetensors.File
	prefix  string
	config  *config
	b       models.Backbone
	side    int      // of the pictures that the positions are for
	assumed []string // what neither tensors nor config.json say
}

// way is the way in which the file writes a parameter: the first of which all parts
// are there; ok is false where there is none.
func (s *sight) way(stem string, block int, kind string) (parts []string, ok bool) {
	n, found := s.find(stem)
	if !found {
		return nil, false
	}
	for _, way := range n.theirs {
		parts = nil
		for _, p := range way {
			name := s.prefix + tensorName(p, block, kind)
			if _, ok := s.file.Tensor(name); !ok {
				break
			}
			parts = append(parts, name)
		}
		if len(parts) == len(way) {
			return parts, true
		}
	}
	return nil, false
}

func (s *sight) has(stem string, block int, kind string) bool {
	_, ok := s.way(stem, block, kind)
	return ok
}

// rows is the sum of the parts' first dimensions, and their second; 0 where there is
// none.
func (s *sight) dims(stem string, block int, kind string) (rows, cols int) {
	parts, _ := s.way(stem, block, kind)
	for _, p := range parts {
		t, _ := s.file.Tensor(p)
		if len(t.Shape) == 0 {
			return 0, 0
		}
		rows += t.Shape[0]
		if len(t.Shape) > 1 {
			cols = t.Shape[1]
		}
	}
	return rows, cols
}

// all are the tensors of the file that the encoder has a row for, and those of its
// prefix that it has none for and that are not known to be left out.
func (s *sight) all() (used map[string]bool, strange []string) {
	used = map[string]bool{}
	for _, n := range s.names {
		blocks := 1
		if strings.Contains(n.ours, "#") {
			blocks = s.b.Layers
		}
		for i := range blocks {
			for _, kind := range []string{"weight", "bias", ""} {
				parts, _ := s.way(n.ours, i, kind)
				for _, p := range parts {
					used[p] = true
				}
			}
		}
	}
	for _, name := range s.file.Names() {
		rest, mine := strings.CutPrefix(name, s.prefix)
		if mine && !used[name] && !slices.ContainsFunc(s.drop, func(p string) bool { return weights.Match(p, rest) }) {
			strange = append(strange, name)
		}
	}
	return used, strange
}

// missing are the tensors that an encoder of these blocks cannot be without.
func (s *sight) missing() (out []string) {
	want := func(stem string, block int, kind string) {
		if n, ok := s.find(stem); ok && !s.has(stem, block, kind) {
			out = append(out, s.prefix+tensorName(n.theirs[0][0], block, kind))
		}
	}
	if s.role == Pictures {
		want("patch_embedding", -1, "weight")
		want("pos_embedding", -1, "")
	} else {
		want("embedding", -1, "weight")
		want("position_embedding", -1, "weight")
		want("relative_bias", -1, "weight")
	}
	for i := range max(s.b.Layers, 1) {
		for _, stem := range []string{"attention.in_proj", "attention.out_proj", "norm1", "norm2", "feed_forward.up", "feed_forward.down"} {
			want("blocks.#."+stem, i, "weight")
		}
	}
	for _, n := range s.needs {
		if _, ok := s.file.Tensor(s.prefix + n); !ok {
			out = append(out, s.prefix+n)
		}
	}
	return out
}

// look reads what the tensors show.
func (s *sight) look() {
	b := &s.b
	*b = s.base
	b.Family = s.name
	for s.has("blocks.#.attention.out_proj", b.Layers, "weight") {
		b.Layers++
	}
	b.Width, b.Hidden = s.dims("blocks.#.feed_forward.down", 0, "weight")
	up, _ := s.dims("blocks.#.feed_forward.up", 0, "weight")
	b.Gated = up == 2*b.Hidden
	b.Bias = s.has("blocks.#.attention.out_proj", 0, "bias")
	b.LayerScale = s.has("blocks.#.layer_scale1.gamma", 0, "")
	b.NormIn, b.NormOut = s.has("norm_in", -1, "weight"), s.has("norm_out", -1, "weight")
	if s.role == Words {
		b.Vocab, _ = s.dims("embedding", -1, "weight")
		b.Positions, _ = s.dims("position_embedding", -1, "weight")
		b.Types, _ = s.dims("type_embedding", -1, "weight")
		if s.has("relative_bias", -1, "weight") {
			b.Buckets, _ = s.dims("relative_bias", -1, "weight")
		}
		return
	}
	b.PatchBias = s.has("patch_embedding", -1, "bias")
	if parts, ok := s.way("patch_embedding", -1, "weight"); ok {
		switch t, _ := s.file.Tensor(parts[0]); len(t.Shape) {
		case 4:
			b.Channels, b.Patch = t.Shape[1], t.Shape[2]
		case 2: // of rows of pixels
			b.Channels = 3
			b.Patch = root(t.Shape[1] / 3)
		}
	}
	b.Class = s.has("cls_token", -1, "")
	b.Registers = s.count("register_tokens")
	n := s.count("pos_embedding")
	if g := root(n); g*g == n {
		b.Grid = g
	} else if g := root(n - 1); b.Class && g*g == n-1 {
		b.Grid, b.ClassPos = g, true
	}
}

// count is how many tokens a parameter [.., n, D] has.
func (s *sight) count(stem string) int {
	parts, ok := s.way(stem, -1, "")
	if !ok {
		return 0
	}
	t, _ := s.file.Tensor(parts[0])
	if len(t.Shape) < 2 {
		return 0
	}
	return t.Shape[len(t.Shape)-2]
}

func root(n int) int {
	g := 0
	for (g+1)*(g+1) <= n {
		g++
	}
	return g
}

// published are the heads of the widths that vision transformers come in, for files
// without a config.json.
var published = map[int]int{192: 3, 256: 4, 320: 5, 384: 6, 512: 8, 640: 10, 768: 12, 896: 14, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16}

// read fills in what config.json says, and holds the rest against it.
func (s *sight) read() error {
	c, b, k := s.config, &s.b, s.keys
	var wrong []string
	same := func(key string, seen int) {
		if v, ok := c.number(key); key != "" && ok && int(v) != seen {
			wrong = append(wrong, fmt.Sprintf("%s %v, and the tensors have %d", key, v, seen))
		}
	}
	same(k.width, b.Width)
	same(k.layers, b.Layers)
	same(k.hidden, b.Hidden)
	same(k.patch, b.Patch)
	same(k.channels, b.Channels)
	same(k.vocab, b.Vocab)
	if b.Positions > 0 {
		same(k.positions, b.Positions)
	}
	same(k.types, b.Types)
	if s.side = b.Grid * b.Patch; b.Grid > 0 {
		same(k.side, s.side)
	}
	if v, ok := c.number(k.heads); ok {
		b.Heads = int(v)
	} else if c.found && s.heads > 0 {
		b.Heads = s.heads
	} else if s.role == Pictures && published[b.Width] > 0 {
		b.Heads = published[b.Width]
		s.assumed = append(s.assumed, fmt.Sprintf("%d heads, as every published one of width %d has", b.Heads, b.Width))
	}
	if b.Heads == 0 {
		return fmt.Errorf("it is %s, and nothing says how many heads it has: put its config.json beside it%s", s.about, c.lacks(k.heads))
	}
	if v, ok := c.number(k.eps); ok {
		b.Eps = v
	}
	if v, ok := c.text(k.activation); ok {
		act, known := acts[v]
		if !known {
			return fmt.Errorf("%s says %s %q; want one of gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, silu", c.path, k.activation, v)
		}
		b.Activation = act
	}
	// heads of keys, and a head's width
	rows, _ := s.dims("blocks.#.attention.in_proj", 0, "weight")
	_, wide := s.dims("blocks.#.attention.out_proj", 0, "weight")
	if b.Head = wide / b.Heads; b.Head == 0 || b.Head*b.Heads != wide {
		wrong = append(wrong, fmt.Sprintf("%s %d, which do not divide the tensors' width of %d", k.heads, b.Heads, wide))
		b.Head = max(b.Head, 1)
	}
	same(k.head, b.Head)
	if b.Groups = (rows/b.Head - b.Heads) / 2; (b.Heads+2*b.Groups)*b.Head != rows || b.Groups < 1 || b.Heads%b.Groups != 0 {
		wrong = append(wrong, fmt.Sprintf("%s %d of width %d, and the tensors' queries, keys and values have %d rows", k.heads, b.Heads, b.Head, rows))
	}
	same(k.groups, b.Groups)
	if len(wrong) > 0 {
		return fmt.Errorf("%s and the tensors of %s contradict each other: %s\nthey are not of one download: take both from the same place", c.path, s.file.Name(), strings.Join(wrong, "; "))
	}
	if s.settle != nil {
		return s.settle(s)
	}
	return nil
}

// acts are the activations by their names in config.json.
var acts = map[string]string{"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu", "silu": "silu", "swish": "silu"}
