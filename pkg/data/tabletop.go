package data

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/data/internal/tabletop"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The tabletop source: synthetic robot episodes, made on the fly. Sample i is
// frame i%4 of episode i/4, a pure function of the seed and i, rendered at the
// model's own image size. See package tabletop for scene, words and expert.
//
// With data.cameras, data.state, data.history or data.chunk an episode is a rollout:
// the expert acts on what its actions have led to, for eight frames. The cameras are
// front and side, the state is gripper.

const (
	minTabletopImage = 16
	maxTabletopImage = 1024
	// tabletopStats bounds how many training samples the action statistics are
	// taken over; samples are independent draws, so the first ones are a fair part.
	tabletopStats = 1 << 16
)

// Tabletop is the options of tabletop data.
type Tabletop struct {
	Scene       string `yaml:"scene,omitempty"`    // simple | cluttered
	Episodes    int    `yaml:"episodes,omitempty"` // in an epoch
	FrameKeys   `yaml:",inline"`
	WordKeys    `yaml:",inline"`
	ActionKeys  `yaml:",inline"`
	AugmentKeys `yaml:",inline"`
}

func tabletopKind() job.Kind {
	return job.Kind{Name: "tabletop", About: "synthetic robot episodes, made on the fly",
		Options: Tabletop{Scene: tabletop.Cluttered.String(), Episodes: 2000, ActionKeys: ActionKeys{Normalize: Scaling{Mode: MeanStd}}}}
}

// Gives is job.DataOptions'.
func (k Tabletop) Gives() []string { return k.gives() }

// Padding is job.DataOptions'.
func (Tabletop) Padding() int { return padToken }

// Resolve is job.Options'.
func (k Tabletop) Resolve(j *job.Job, given func(string) bool) job.Options {
	holdout(j, given, 0.1)
	return k
}

// Check is job.Options'.
func (k Tabletop) Check(c *job.Checker) {
	checkMade(c)
	c.Within("data.episodes", k.Episodes, 1, maxEpisodes)
	c.OneOf("data.scene", k.Scene, []string{tabletop.Cluttered.String(), tabletop.Simple.String()})
	k.FrameKeys.check(c, "")
	for i, name := range k.Cameras {
		c.OneOf(fmt.Sprintf("data.cameras[%d]", i), name, tabletopCameras[:])
	}
	for i, name := range k.State {
		c.OneOf(fmt.Sprintf("data.state[%d]", i), name, []string{"gripper"})
	}
	k.WordKeys.check(c)
	c.Unused("data.relative", len(k.Relative) == 0, "data.kind tabletop")
	const own = "data.kind tabletop, which has names and units of its own"
	c.Unused("data.action_names", len(k.ActionNames) == 0, own)
	c.Unused("data.action_units", len(k.ActionUnits) == 0, own)
	ActionKeys{Normalize: k.Normalize, StateNormalize: k.StateNormalize}.check(c)
	k.AugmentKeys.check(c)
	checkChannels(c)
}

// Open is Options'.
func (k Tabletop) Open(o *Opening) (*Set, error) {
	if k.rolls() {
		return k.rollouts(o)
	}
	episodes, scene := k.Episodes, k.scene()
	size, err := tabletopSize(o)
	if err != nil {
		return nil, err
	}
	out, err := o.HeldOut(episodes, nil)
	if err != nil {
		return nil, err
	}
	fp := NewFingerprint("tabletop").Add("recipe", tabletop.Version).Add("scene", scene).Add("seed", o.Seed).Add("episodes", episodes).Add("size", size).Add("holdout", o.Division())
	meta, err := o.Meta(fp.Sum())
	if err != nil {
		return nil, err
	}
	of := tabletopTexts(scene)
	worded, unsaid := o.sayable(scene.Words())
	if o.wordings != nil {
		meta.Worded = worded.worded(o.wordings, nil)
		of = of.plus(func() []string { return slices.Concat(worded.said...) })
	}
	if err := o.Words(&meta, of); err != nil {
		return nil, err
	}
	n := episodes * tabletop.Frames
	episode := func(i int) int { return i / tabletop.Frames }
	place := func(e, k int) string { return fmt.Sprintf("tabletop episode %d frame %d", e, k) }
	err = o.Numbers(&meta, models.Actions, []int{len(tabletop.Action{})}, tabletopActions(), func() (train, held Rows) {
		var actions [][]float32
		var of []int
		for e := 0; e < episodes && len(actions) < tabletopStats; e++ {
			if _, ok := slices.BinarySearch(out, e); ok {
				continue
			}
			ep := scene.NewEpisode(o.Seed, uint64(e))
			for k := 0; k < tabletop.Frames; k++ {
				a := make([]float32, len(tabletop.Action{}))
				copyFloats(a, ep.Frame(k).Expert())
				actions, of = append(actions, a), append(of, e)
			}
		}
		return Rows{len(actions), func(i int) []float32 { return actions[i] }, func(i int) string { return place(of[i], i%tabletop.Frames) }}, Rows{}
	})
	if err != nil {
		return nil, err
	}
	tok, err := meta.Tokens()
	if err != nil {
		return nil, err
	}
	said := map[string]*utterance{} // of the instructions that have wordings
	speak := func(t *Tokenizer) error {
		tok = t
		if t == nil {
			return nil
		}
		rows, err := worded.rows(t, meta.Spec.Index(models.Instruction))
		for k, text := range worded.texts {
			said[text] = rows[k]
		}
		return err
	}
	if err := speak(tok); err != nil {
		return nil, err
	}
	var camera *tabletop.Camera
	if size > 0 {
		camera = tabletop.NewCamera(size)
	}
	get := func(i int) (Sample, error) {
		f := scene.NewEpisode(o.Seed, uint64(episode(i))).Frame(i % tabletop.Frames)
		x := new(struct { // all in one piece
			values [3]Value
			action [len(tabletop.Action{})]float32
		})
		s := Sample{ID: uint64(i), Origin: place(episode(i), i%tabletop.Frames), Values: x.values[:len(meta.Spec)]}
		for k, want := range meta.Spec {
			switch v := &s.Values[k]; want.Name {
			case models.Images:
				v.Image = Image{RGB: make([]byte, 3*size*size), H: size, W: size}
				f.Render(camera, v.RGB)
			case models.Instruction:
				if u := said[f.Text]; u != nil {
					if v.Ints = u.rows[0]; len(u.rows) > 1 {
						s.words = u
					}
					continue
				}
				var err error
				if v.Ints, err = tok.Encode(f.Text); err != nil {
					return Sample{}, err
				}
			case models.Actions:
				v.Floats = x.action[:]
				copyFloats(v.Floats, f.Expert())
			}
		}
		return s, nil
	}
	d, err := NewSet(meta, Samples{N: n, Episodes: episodes, Held: out, Episode: episode, Get: get})
	if err == nil {
		d.speak, d.unsaid = speak, unsaid
	}
	return d, err
}

// tabletopTexts are the instructions of a scene: no instruction has more tokens than
// as many words as the longest has, all of them the word with the most.
func tabletopTexts(scene tabletop.Scene) texts {
	return texts{
		words: func() ([]string, int) {
			return slices.Concat([]string{"<pad>", "<unk>"}, scene.Words()), scene.MaxWords()
		},
		all: func() (all []string) {
			for _, w := range scene.Words() {
				all = append(all, strings.TrimSuffix(strings.Repeat(w+" ", scene.MaxWords()), " "))
			}
			return all
		},
	}
}

// scene is that of the options.
func (k Tabletop) scene() tabletop.Scene {
	if k.Scene == tabletop.Simple.String() {
		return tabletop.Simple
	}
	return tabletop.Cluttered
}

// tabletopSize is the side of the pictures that the model takes; 0: none.
func tabletopSize(o *Opening) (int, error) {
	im := o.image()
	if size := im[1]; im[0] > 0 && (im[1] != im[2] || size < minTabletopImage || size > maxTabletopImage) {
		return 0, fmt.Errorf("images of %d×%d; tabletop renders squares of %d to %d pixels", im[2], im[1], minTabletopImage, maxTabletopImage)
	}
	return im[1], nil
}

// tabletopActions are the names and units of the expert's action.
func tabletopActions() Labels {
	return Labels{[]string{"x", "y", "z", "roll", "pitch", "yaw", "gripper"}, []string{"m", "m", "m", "rad", "rad", "rad", "open"}}
}

func copyFloats(dst []float32, a tabletop.Action) {
	for i, v := range a {
		dst[i] = float32(v)
	}
}
