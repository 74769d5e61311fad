package data

import (
	"fmt"
	"slices"

	"github.com/vlaring/vlaring/pkg/data/internal/tabletop"
	"github.com/vlaring/vlaring/pkg/models"
)

// The tabletop source: synthetic robot episodes, made on the fly. Sample i is
// frame i%4 of episode i/4, a pure function of the seed and i, rendered at the
// model's own image size. See package tabletop for scene, words and expert.

const (
	defaultTabletopEpisodes = 16384
	minTabletopImage        = 16
	maxTabletopImage        = 1024
	// tabletopStats bounds how many training samples the action statistics are
	// taken over; samples are independent draws, so the first ones are a fair part.
	tabletopStats = 1 << 16
)

func openTabletop(o *opening) (*set, error) {
	if err := o.has(models.Images, models.Instruction, models.Actions); err != nil {
		return nil, err
	}
	episodes := o.cfg.Episodes
	if episodes == 0 {
		episodes = defaultTabletopEpisodes
	}
	scene := tabletop.Cluttered
	switch o.cfg.Scene {
	case "", tabletop.Cluttered.String():
	case tabletop.Simple.String():
		scene = tabletop.Simple
	default:
		return nil, fmt.Errorf("data.scene is %q; want simple or cluttered", o.cfg.Scene)
	}
	size := o.image()[1]
	switch im := o.image(); {
	case episodes < 1 || episodes > maxEpisodes:
		return nil, fmt.Errorf("data.episodes is %d; it can be 1 to %d", episodes, maxEpisodes)
	case im[0] > 0 && (im[1] != im[2] || size < minTabletopImage || size > maxTabletopImage):
		return nil, fmt.Errorf("images of %d×%d; tabletop renders squares of %d to %d pixels", im[2], im[1], minTabletopImage, maxTabletopImage)
	}
	out, err := heldOut(o.cfg.Holdout, o.seed, episodes, nil)
	if err != nil {
		return nil, err
	}
	fp := newPrint("tabletop").add("recipe", tabletop.Version).add("scene", scene).add("seed", o.seed).add("episodes", episodes).add("size", size).add("holdout", o.holdoutLabel())
	meta, err := o.base(fp.sum())
	if err != nil {
		return nil, err
	}
	err = o.words(&meta,
		func() []string { return append([]string{"<pad>", "<unk>"}, scene.Words()...) },
		func() int { return scene.MaxWords() })
	if err != nil {
		return nil, err
	}
	n := episodes * tabletop.Frames
	episode := func(i int) int { return i / tabletop.Frames }
	place := func(e, k int) string { return fmt.Sprintf("tabletop episode %d frame %d", e, k) }
	err = o.numbers(&meta, models.Actions, []int{len(tabletop.Action{})}, tabletopActions(), func() (train, held floatRows) {
		var actions [][]float32
		var of []int
		for e := 0; e < episodes && len(actions) < tabletopStats; e++ {
			if _, ok := slices.BinarySearch(out, e); ok {
				continue
			}
			ep := scene.NewEpisode(o.seed, uint64(e))
			for k := 0; k < tabletop.Frames; k++ {
				a := make([]float32, len(tabletop.Action{}))
				copyFloats(a, ep.Frame(k).Expert())
				actions, of = append(actions, a), append(of, e)
			}
		}
		return floatRows{len(actions), func(i int) []float32 { return actions[i] }, func(i int) string { return place(of[i], i%tabletop.Frames) }}, floatRows{}
	})
	if err != nil {
		return nil, err
	}
	var tok *Tokenizer
	if n := meta.Spec.Len(models.Instruction, 0); n > 0 {
		if tok, err = NewTokenizer(meta.Vocab, n); err != nil {
			return nil, err
		}
	}
	var camera *tabletop.Camera
	if size > 0 {
		camera = tabletop.NewCamera(size)
	}
	get := func(i int) (Sample, error) {
		f := scene.NewEpisode(o.seed, uint64(episode(i))).Frame(i % tabletop.Frames)
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
				v.Ints = tok.Encode(f.Text)
			case models.Actions:
				v.Floats = x.action[:]
				copyFloats(v.Floats, f.Expert())
			}
		}
		return s, nil
	}
	return newSet(meta, n, episodes, out, episode, get, nil)
}

// tabletopActions are the names and units of the expert's action.
func tabletopActions() labels {
	return labels{[]string{"x", "y", "z", "roll", "pitch", "yaw", "gripper"}, []string{"m", "m", "m", "rad", "rad", "rad", "open"}}
}

func copyFloats(dst []float32, a tabletop.Action) {
	for i, v := range a {
		dst[i] = float32(v)
	}
}
