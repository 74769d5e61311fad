package data

import (
	"fmt"
	"strings"

	"github.com/vlaring/vlaring/pkg/data/internal/tabletop"
	"github.com/vlaring/vlaring/pkg/models"
)

// Rollouts of the tabletop's expert: what is seen from two sides, the gripper's
// state, and actions that follow one another.

// tabletopCameras are the names of the cameras.
var tabletopCameras = [...]string{"front", "side"}

// rolls says whether a job looks at more than one moment, or beside the camera.
func (k Tabletop) rolls() bool {
	return k.Cameras != nil || k.State != nil || k.History > 1 || k.Chunk > 1
}

// eyes are the cameras of a job: those that it names, or the one in front.
func (k Tabletop) eyes() []string {
	if k.Cameras == nil {
		return tabletopCameras[:1]
	}
	return k.Cameras
}

// rollouts opens data whose episodes are rollouts. States and actions of all
// episodes are kept; pictures are drawn when they are asked for.
func (k Tabletop) rollouts(o *Opening) (*Set, error) {
	size, err := tabletopSize(o)
	if err != nil {
		return nil, err
	}
	scene := k.scene()
	fp := NewFingerprint("tabletop rollouts").Add("recipe", tabletop.Version).Add("rollout", tabletop.RolloutVersion).Add("scene", scene).Add("seed", o.Seed).
		Add("episodes", k.Episodes).Add("size", size).Add("holdout", o.Division())
	cameras := k.eyes()
	fp.Add("cameras", strings.Join(cameras, " "))
	o.callsViews(cameras)
	o.calls(models.State, "gripper")
	t := &table{eps: k.Episodes, camera: cameras[0]}
	state, actions := t.float(models.State), t.float(models.Actions)
	state.dim, state.labels = len(tabletop.State{}), Labels{[]string{"x", "y", "z", "roll", "pitch", "yaw", "open", "holding"}, []string{"m", "m", "m", "rad", "rad", "rad", "", ""}}
	actions.dim, actions.labels = len(tabletop.Action{}), tabletopActions()
	var texts textIndex
	for e := range k.Episodes {
		if err := o.tick(int64(e), int64(k.Episodes), "episodes"); err != nil {
			return nil, err
		}
		for _, f := range scene.NewEpisode(o.Seed, uint64(e)).Rollout() {
			t.episode, t.text = append(t.episode, int32(e)), append(t.text, texts.add(f.Text))
			for _, v := range f.State() {
				state.rows = append(state.rows, float32(v))
			}
			for _, v := range f.Expert() {
				actions.rows = append(actions.rows, float32(v))
			}
		}
	}
	t.texts = texts.texts
	t.short = func(i, frame int) string { return fmt.Sprintf("episode %d frame %d", t.episode[i], frame) }
	t.origin = func(i int) string { return "tabletop " + t.short(i, i%tabletop.RolloutFrames) }
	t.place = func(i int) Fault {
		return Fault{Episode: ptr(int64(t.episode[i])), Frame: ptr(i % tabletop.RolloutFrames)}
	}
	for n, name := range cameras {
		c := tabletopCamera(name, max(size, 1))
		t.picture(models.View(n, 0)).read = func(i int) (Image, error) {
			m := Image{RGB: make([]byte, 3*size*size), H: size, W: size}
			scene.NewEpisode(o.Seed, uint64(t.episode[i])).Rollout()[i%tabletop.RolloutFrames].Render(c, m.RGB)
			return m, nil
		}
	}
	of := tabletopTexts(scene)
	t.words, t.all = of.words, of.all
	return o.dataset(fp.Sum(), t)
}
