package job

import (
	"fmt"
	"reflect"
	"strings"
)

// Init is where the first weights come from. In a job file it is a path, or a
// section with names to translate.
type Init struct {
	Path    string   `yaml:"path" job:"bare"`    // .safetensors file, the index of a sharded one, or a folder of either; relative to the job file
	Weights string   `yaml:"weights,omitempty"`  // raw, or ema: the average beside the weights, where Path is a checkpoint of a job with one; empty: raw
	Map     Renames  `yaml:"map,omitempty"`      // names in the file to names in the model; the first that matches counts
	Partial bool     `yaml:"partial,omitempty"`  // the model may have more than the file, and the file more than the model
	AtLeast *float64 `yaml:"at_least,omitempty"` // with partial: 0 to 1, what must find a place; nil: DefaultAtLeast
}

// DefaultAtLeast is the share of the file's tensors or of the model's values,
// whichever is larger, that a partial init must bring unless it says another.
const DefaultAtLeast = 0.5

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
	Teacher     string  `yaml:"teacher"`           // checkpoint, or run directory for its newest, relative to the job file
	Weights     string  `yaml:"weights,omitempty"` // raw, or ema; empty: ema where the teacher has it, which is then written here
	Alpha       float64 `yaml:"alpha"`             // 0 to 1: share of the teacher's answer; the task's own loss has the rest
	Temperature float64 `yaml:"temperature"`       // of both softmaxes, where the output is tokens
	Features    float64 `yaml:"features"`          // weight of the error between pooled features; 0: they are not compared
	// What the coordinator found at teacher: written by it, so that workers need no file of the teacher's.
	Model  *Model `yaml:"model,omitempty"`
	SHA256 string `yaml:"sha256,omitempty"`
	// The teacher's normalised actions as this job's, a dimension at a time: scale·action + shift.
	Scale []float64 `yaml:"scale,omitempty"`
	Shift []float64 `yaml:"shift,omitempty"`
}

// Active says whether there is a teacher.
func (d Distill) Active() bool { return d.Teacher != "" }

func (j *Job) checkTransfer(c *Checker) {
	if _, short := shortOf(reflect.ValueOf(j.Init)); j.Init.Path == "" && !short {
		c.Bad("init.path init", "is missing; want a .safetensors file, the index of a sharded one, or a folder of either")
	}
	if j.Init.Weights != "" {
		c.OneOf("init.weights", j.Init.Weights, []string{Raw, Average})
	}
	if a := j.Init.AtLeast; a != nil && !(*a >= 0 && *a <= 1) {
		c.Bad("init.at_least init", "is %v; want a share from 0 to 1", *a)
	} else if a != nil && !j.Init.Partial {
		c.Bad("init.at_least init", "has no meaning without init.partial: true")
	}
	for i, r := range j.Init.Map {
		if n := strings.Count(r.To, "*"); r.From == "" || n > strings.Count(r.From, "*") {
			c.Bad(fmt.Sprintf("init.map[%d] init.map init", i), "%q to %q: the name on the right has more * than the one on the left", r.From, r.To)
		}
	}
	for i, p := range j.Train.Freeze {
		if p == "" {
			c.Bad(fmt.Sprintf("train.freeze[%d] train.freeze", i), "is empty; want a pattern of parameter names, such as vision_encoder.*")
		}
	}
	for i, g := range j.Optimizer.Groups {
		key := fmt.Sprintf("optimizer.groups[%d]", i)
		if g.Match == "" {
			c.Bad(key+".match "+key+" optimizer.groups", "is missing; want a pattern of parameter names, such as vision_encoder.*")
		}
		if g.LR != nil && !(*g.LR > 0) {
			c.Bad(key+".lr", "%v is not a learning rate; want a number above 0 (train.freeze keeps parameters as they are)", *g.LR)
		}
		if g.WeightDecay != nil && !(*g.WeightDecay >= 0) {
			c.Bad(key+".weight_decay", "%v is below 0", *g.WeightDecay)
		}
	}
}

func (j *Job) checkDistill(c *Checker) {
	d := j.Distill
	if !d.Active() {
		if !reflect.DeepEqual(d, Distill{}) {
			c.Bad("distill.teacher distill", "is missing; want a checkpoint or a run directory")
		}
		return
	}
	if d.Weights != "" {
		c.OneOf("distill.weights", d.Weights, []string{Raw, Average})
	}
	if !(d.Alpha >= 0 && d.Alpha <= 1) {
		c.Bad("distill.alpha", "%v is outside 0 ≤ alpha ≤ 1", d.Alpha)
	}
	if !(d.Temperature > 0) {
		c.Bad("distill.temperature", "%v is not above 0", d.Temperature)
	}
	if len(d.Scale) != len(d.Shift) {
		c.Bad("distill.scale distill.shift distill", "%d values and %d of distill.shift; both are the coordinator's to write", len(d.Scale), len(d.Shift))
	}
	if !(d.Features >= 0) {
		c.Bad("distill.features", "%v is below 0", d.Features)
	}
}
