package run

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/job"
)

// mayChange are the keys of a job that a resumed run may set anew: none of
// them decides what a step computes. A longer run stretches the cosine of the
// schedule, which the user asks for by changing train.steps.
var mayChange = map[string]bool{"train.steps": true, "train.eval_every": true, "train.rollout_every": true, "train.rollout_episodes": true, "model.vision.from": true, "model.language.from": true, "checkpoint": true, "cluster": true, "init": true,
	"data.path": true, "data.tokenizer": true, "data.wordings": true, "data.holdout.path": true, "data.frames": true, "data.skip": true, "data.delivery": true, "data.action_names": true, "data.action_units": true, "distill.teacher": true, "distill.scale": true, "distill.shift": true} // the teacher is known by its hash

// setsKey begins the keys of a set of a mixture, which may change as those of data do.
var setsKey = regexp.MustCompile(`^data\.sets\[\d+\]\.`)

// sameRun refuses to resume a run under another job, and names every key that differs.
func sameRun(was, is *job.Job) error {
	diff := slices.DeleteFunc(changes(was, is), func(c change) bool {
		top, _, _ := strings.Cut(c.key, ".")
		return mayChange[c.key] || mayChange[setsKey.ReplaceAllString(c.key, "data.")] || mayChange[top] && c.key != "cluster.reduce" && c.key != "cluster.wire"
	})
	if len(diff) == 0 {
		return nil
	}
	hint := ""
	if slices.ContainsFunc(diff, func(c change) bool { return strings.HasPrefix(c.key, "optimizer.ema") }) {
		hint = "; an average begins with a run, and init: {path: …/model.safetensors} begins one with the weights of a checkpoint"
	}
	return usage.Errorf("the run that is to be resumed was made by another job:\n%s\nresume with the values of the run, or start another with --run-dir%s", listed(diff), hint)
}

// change is a key of a job that differs between two.
type change struct{ key, was, is string }

func (c change) String() string {
	return fmt.Sprintf("%s: %s in the run, %s now", c.key, orNone(c.was), orNone(c.is))
}

// listed has one change a line, and never more than a screen of them.
func listed(l []change) string {
	const most = 20
	var s []string
	for i, c := range l {
		if i == most {
			s = append(s, fmt.Sprintf("  and %d more", len(l)-most))
			break
		}
		s = append(s, "  "+c.String())
	}
	return strings.Join(s, "\n")
}

// changes are all keys that differ, in the order of the job file.
func changes(was, is *job.Job) (l []change) {
	a, b := flat(was), flat(is)
	keys := append([]string(nil), a.keys...)
	for _, k := range b.keys {
		if _, ok := a.vals[k]; !ok {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		if a.vals[k] != b.vals[k] {
			l = append(l, change{k, a.vals[k], b.vals[k]})
		}
	}
	return l
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

type flatJob struct {
	keys []string
	vals map[string]string
}

// flat is the resolved job as dotted keys.
func flat(j *job.Job) flatJob {
	f := flatJob{vals: map[string]string{}}
	var root yaml.Node
	if err := yaml.Unmarshal(j.YAML(), &root); err != nil {
		panic("run: the resolved job is not YAML: " + err.Error())
	}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		if n.Kind == yaml.SequenceNode && len(n.Content) > 0 && n.Content[0].Kind == yaml.MappingNode {
			for i, e := range n.Content {
				walk(fmt.Sprintf("%s[%d]", prefix, i), e)
			}
			return
		}
		if n.Kind != yaml.MappingNode {
			var b bytes.Buffer
			e := yaml.NewEncoder(&b)
			n.Style = yaml.FlowStyle
			e.Encode(n)
			f.keys = append(f.keys, prefix)
			f.vals[prefix] = strings.TrimSpace(b.String())
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i].Value
			if prefix != "" {
				k = prefix + "." + k
			}
			walk(k, n.Content[i+1])
		}
	}
	walk("", root.Content[0])
	return f
}

// Change is a key of two jobs with the values that each has; empty: none.
type Change struct {
	Key string `json:"key"`
	A   string `json:"a"`
	B   string `json:"b"`
}

// Changes are the keys that differ between two jobs, in the order of the job file.
func Changes(a, b *job.Job) []Change {
	l := []Change{}
	for _, c := range changes(a, b) {
		l = append(l, Change{c.key, c.was, c.is})
	}
	return l
}

// Keys are the keys of a resolved job that have a value, each with it, in the order of
// the job file.
func Keys(j *job.Job) (out [][2]string) {
	f := flat(j)
	for _, k := range f.keys {
		out = append(out, [2]string{k, f.vals[k]})
	}
	return out
}
