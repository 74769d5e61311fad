package trained

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

const robotTable = `
name: robot
model: {preset: robot-5m, kind: vla, vocab_size: 1000}
data: {kind: tabletop, scene: simple, episodes: 10, cameras: [front, side], state: [gripper], chunk: 16}
loss: l1
train: {steps: 1}
`

// seenBy is what a robot would send where the data has a sample.
func seenBy(c *Checkpoint, s data.Sample) Observation {
	o := Observation{}
	for k, f := range c.Meta.Spec {
		v := s.Values[k]
		switch {
		case f.Type == models.Image:
			o[f.Called()] = Given{Bytes: v.RGB, Shape: []int{v.H, v.W, 3}}
		case f.Role == models.Input && f.Type == models.Float:
			g := Given{Shape: f.Shape}
			for _, x := range v.Floats {
				g.Floats = append(g.Floats, float64(x))
			}
			o[f.Called()] = g
		}
	}
	o["prompt"] = Given{Text: "push the red cube to the left"}
	return o
}

// BenchmarkPolicy is what a question of the 5 M-parameter policy costs on one thread:
// to be read, and to be answered alone and with seven others.
//
//	go test ./pkg/trained -run - -bench Policy
func BenchmarkPolicy(b *testing.B) {
	for _, precision := range []string{"float32", "bf16"} {
		b.Run(precision, func(b *testing.B) { benchPolicy(b, robotTable+"precision: "+precision+"\n") })
	}
}

func benchPolicy(b *testing.B, job string) {
	c := untrained(b, job)
	p, err := c.Policy(1)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	s, err := c.Set.Train().Sample(0)
	if err != nil {
		b.Fatal(err)
	}
	o := seenBy(c, s)
	var q *Question
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if q, _, err = p.Read(o); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, n := range map[string]int{"answer": 1, "answer8": 8} {
		qs := make([]*Question, n)
		for i := range qs {
			qs[i] = q
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := p.Answer(qs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
