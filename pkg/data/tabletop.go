package data

import (
	"fmt"
	"slices"

	"github.com/vlaring/vlaring/pkg/data/internal/tabletop"
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
	if err := o.lacks("labels", "features"); err != nil {
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
	size := o.needs.Image[1]
	switch im := o.needs.Image; {
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
	err = o.actions(&meta, len(tabletop.Action{}), tabletopActions(), func() (train, held actionRows) {
		var actions [][]float32
		var of []int
		for e := 0; e < episodes && len(actions) < tabletopStats; e++ {
			if _, ok := slices.BinarySearch(out, e); ok {
				continue
			}
			ep := scene.NewEpisode(o.seed, uint64(e))
			for k := 0; k < tabletop.Frames; k++ {
				actions, of = append(actions, float32s(ep.Frame(k).Expert())), append(of, e)
			}
		}
		return actionRows{len(actions), func(i int) []float32 { return actions[i] }, func(i int) string { return place(of[i], i%tabletop.Frames) }}, actionRows{}
	})
	if err != nil {
		return nil, err
	}
	var tok *Tokenizer
	if o.needs.Tokens {
		if tok, err = NewTokenizer(meta.Vocab, meta.Spec.Tokens); err != nil {
			return nil, err
		}
	}
	var camera *tabletop.Camera
	if size > 0 {
		camera = tabletop.NewCamera(size)
	}
	get := func(i int) (Sample, error) {
		f := scene.NewEpisode(o.seed, uint64(episode(i))).Frame(i % tabletop.Frames)
		s := Sample{ID: uint64(i), Origin: place(episode(i), i%tabletop.Frames)}
		if size > 0 {
			s.Image = Image{RGB: make([]byte, 3*size*size), H: size, W: size}
			f.Render(camera, s.Image.RGB)
		}
		if tok != nil {
			s.Tokens = tok.Encode(f.Text)
		}
		if meta.Spec.Action > 0 {
			s.Action = float32s(f.Expert())
		}
		return s, nil
	}
	return newSet(meta, n, episodes, out, episode, get, nil)
}

// tabletopActions are the names and units of the expert's action.
func tabletopActions() labels {
	return labels{[]string{"x", "y", "z", "roll", "pitch", "yaw", "gripper"}, []string{"m", "m", "m", "rad", "rad", "rad", "open"}}
}

func float32s(a tabletop.Action) []float32 {
	out := make([]float32, len(a))
	for i, v := range a {
		out[i] = float32(v)
	}
	return out
}
