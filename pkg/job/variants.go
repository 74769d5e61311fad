package job

import (
	"fmt"
	"reflect"
	"strings"
)

// Init is where the first weights come from. In a job file it is a path, or a
// section with names to translate.
type Init struct {
	Path    string   `yaml:"path"`               // .safetensors file, the index of a sharded one, or a folder of either; relative to the job file
	Map     Renames  `yaml:"map,omitempty"`      // names in the file to names in the model; the first that matches counts
	Partial bool     `yaml:"partial,omitempty"`  // the model may have more than the file, and the file more than the model
	AtLeast *float64 `yaml:"at_least,omitempty"` // with partial: 0 to 1, what must find a place; nil: DefaultAtLeast
}

// DefaultAtLeast is the share of the file's tensors or of the model's values,
// whichever is larger, that a partial init must bring unless it says another.
const DefaultAtLeast = 0.5

// short says that the path alone says it all.
func (i Init) short() bool { return len(i.Map) == 0 && !i.Partial && i.AtLeast == nil }

// Renames are translations of names, in the order of the file.
type Renames []Rename

// Rename translates names that match From, in which each * stands for any
// text, to To, in which the n-th * stands for the same text. An empty To drops
// the tensor.
type Rename struct{ From, To string }

// Group is parameters with an optimizer setting of their own.
type Group struct {
	Match       string   `yaml:"match"`                  // pattern of names: * is any text
	LR          *float64 `yaml:"lr,omitempty"`           // in place of optimizer.lr, following the same schedule
	WeightDecay *float64 `yaml:"weight_decay,omitempty"` // in place of optimizer.weight_decay
}

// Distill adds a trained model's answers to what is learned.
type Distill struct {
	Teacher     string  `yaml:"teacher"`     // checkpoint, or run directory for its newest, relative to the job file
	Alpha       float64 `yaml:"alpha"`       // 0 to 1: share of the teacher's answer; the task's own loss has the rest
	Temperature float64 `yaml:"temperature"` // of both softmaxes, where the output is tokens
	Features    float64 `yaml:"features"`    // weight of the error between pooled features; 0: they are not compared
	// What the coordinator found at teacher: written by it, so that workers need no file of the teacher's.
	Model  *Model `yaml:"model,omitempty"`
	SHA256 string `yaml:"sha256,omitempty"`
	// The teacher's normalised actions as this job's, a dimension at a time: scale·action + shift.
	Scale []float64 `yaml:"scale,omitempty"`
	Shift []float64 `yaml:"shift,omitempty"`
}

// Active says whether there is a teacher.
func (d Distill) Active() bool { return d.Teacher != "" }

// deriveVariants fills what depends on choices that are made.
func (j *Job) deriveVariants(given func(key string) bool) {
	if d := &j.Distill; d.Active() {
		if !given("distill.alpha") {
			d.Alpha = 0.5
		}
		if !given("distill.temperature") {
			d.Temperature = 2
		}
	}
	if len(j.Model.Exits) > 0 && !given("model.exit_weights") {
		j.Model.ExitWeights = nil
		for range j.Model.Exits {
			j.Model.ExitWeights = append(j.Model.ExitWeights, 1)
		}
	}
	if d := &j.Data; d.Kind == "recall" { // the key comes first, unless told otherwise
		switch {
		case given("data.distance") && !given("data.seq_len"):
			d.SeqLen = d.Distance + 1
		case !given("data.distance"):
			d.Distance = d.SeqLen - 1
		}
	}
}

// stack is the number of layers that exits may stand in: a vla's are the
// fusion's.
func (m Model) stack() int {
	if m.Kind == "vla" {
		return m.NLayers / 2
	}
	return m.NLayers
}

func (j *Job) checkVariants(c *checker) {
	m := j.Model
	kind := "model.kind " + m.Kind
	if takesImages(m.Kind) {
		if c.oneOf("model.vision", m.Vision, visions) && m.Vision == "cnn" && (m.PatchSize < 2 || m.PatchSize&(m.PatchSize-1) != 0) {
			c.bad("model.patch_size model.vision", "%d is no power of 2; a cnn halves the picture until a pixel stands for patch_size of them", m.PatchSize)
		}
	} else {
		c.unused("model.vision", m.Vision == "", kind)
	}
	if m.Kind == "vla" {
		c.oneOf("model.vision_tokens", m.VisionTokens, visionTokens)
	} else {
		c.unused("model.vision_tokens", m.VisionTokens == "", kind)
	}
	j.checkAttention(c)
	switch {
	case len(m.Exits) == 0:
		c.unused("model.exit_weights", len(m.ExitWeights) == 0, "a model without exits")
	case m.Kind == "lstm" || m.Kind == "vit" && m.Vision == "cnn":
		c.bad("model.exits", "stand behind transformer layers, and this model has none; leave them out")
	default:
		for i, e := range m.Exits {
			key := fmt.Sprintf("model.exits[%d] model.exits model.n_layers", i)
			switch {
			case e < 1 || e >= m.stack():
				c.bad(key, "%d is not a layer below the last; want 1 to %d (a vla counts the fusion's n_layers/2)", e, m.stack()-1)
			case i > 0 && e <= m.Exits[i-1]:
				c.bad(key, "%d does not come after %d; list the exits from the first layer on", e, m.Exits[i-1])
			}
		}
		if len(m.ExitWeights) != len(m.Exits) {
			c.bad("model.exit_weights model.exits", "%d weights for %d exits", len(m.ExitWeights), len(m.Exits))
		}
		for i, w := range m.ExitWeights {
			if !(w >= 0) {
				c.bad(fmt.Sprintf("model.exit_weights[%d] model.exit_weights", i), "%v is below 0", w)
			}
		}
	}
}

func (j *Job) checkAttention(c *checker) {
	a := j.Model.Attention
	if j.Model.Kind == "lstm" {
		c.unused("model.attention", a == Attention{}, "model.kind lstm")
		return
	}
	what := "model.attention without a kind"
	if a.Kind != "" {
		what = "model.attention.kind " + a.Kind
		if !c.oneOf("model.attention.kind model.attention", a.Kind, attentions) {
			return
		}
	}
	if a.Kind == "local" || a.Kind == "strided" {
		c.within("model.attention.window model.attention", a.Window, 1, maxVocab)
	} else {
		c.unused("model.attention.window", a.Window == 0, what)
	}
	if a.Kind == "strided" {
		c.within("model.attention.stride model.attention", a.Stride, 1, maxVocab)
	} else {
		c.unused("model.attention.stride", a.Stride == 0, what)
	}
}

func (j *Job) checkRecall(c *checker) {
	d := j.Data
	if d.Kind != "recall" {
		c.unused("data.distance", d.Distance == 0, "data.kind "+d.Kind)
		return
	}
	if d.Distance < 1 || d.Distance >= d.SeqLen {
		c.bad("data.distance data.seq_len", "%d is not within the sequence; want 1 to data.seq_len-1 = %d", d.Distance, d.SeqLen-1)
	}
	if v := j.Model.VocabSize; namesTokens(j.Model.Kind) && v >= 0 && v < 6 {
		c.bad("model.vocab_size data.kind", "%d is too small; recall needs padding, a question, two keys and two others: at least 6", v)
	}
}

func (j *Job) checkTransfer(c *checker) {
	if j.Init.Path == "" && !j.Init.short() {
		c.bad("init.path init", "is missing; want a .safetensors file, the index of a sharded one, or a folder of either")
	}
	if a := j.Init.AtLeast; a != nil && !(*a >= 0 && *a <= 1) {
		c.bad("init.at_least init", "is %v; want a share from 0 to 1", *a)
	} else if a != nil && !j.Init.Partial {
		c.bad("init.at_least init", "has no meaning without init.partial: true")
	}
	for i, r := range j.Init.Map {
		if n := strings.Count(r.To, "*"); r.From == "" || n > strings.Count(r.From, "*") {
			c.bad(fmt.Sprintf("init.map[%d] init.map init", i), "%q to %q: the name on the right has more * than the one on the left", r.From, r.To)
		}
	}
	for i, p := range j.Train.Freeze {
		if p == "" {
			c.bad(fmt.Sprintf("train.freeze[%d] train.freeze", i), "is empty; want a pattern of parameter names, such as vision_encoder.*")
		}
	}
	for i, g := range j.Optimizer.Groups {
		key := fmt.Sprintf("optimizer.groups[%d]", i)
		if g.Match == "" {
			c.bad(key+".match "+key+" optimizer.groups", "is missing; want a pattern of parameter names, such as vision_encoder.*")
		}
		if g.LR != nil && !(*g.LR > 0) {
			c.bad(key+".lr", "%v is not a learning rate; want a number above 0 (train.freeze keeps parameters as they are)", *g.LR)
		}
		if g.WeightDecay != nil && !(*g.WeightDecay >= 0) {
			c.bad(key+".weight_decay", "%v is below 0", *g.WeightDecay)
		}
	}
}

func (j *Job) checkDistill(c *checker) {
	d := j.Distill
	if !d.Active() {
		if !reflect.DeepEqual(d, Distill{}) {
			c.bad("distill.teacher distill", "is missing; want a checkpoint or a run directory")
		}
		return
	}
	if !(d.Alpha >= 0 && d.Alpha <= 1) {
		c.bad("distill.alpha", "%v is outside 0 ≤ alpha ≤ 1", d.Alpha)
	}
	if !(d.Temperature > 0) {
		c.bad("distill.temperature", "%v is not above 0", d.Temperature)
	}
	if len(d.Scale) != len(d.Shift) {
		c.bad("distill.scale distill.shift distill", "%d values and %d of distill.shift; both are the coordinator's to write", len(d.Scale), len(d.Shift))
	}
	if !(d.Features >= 0) {
		c.bad("distill.features", "%v is below 0", d.Features)
	}
}
