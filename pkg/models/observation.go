package models

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/pkg/job"
)

// Observation is how much of an episode a sample shows, beside its instruction:
// data says it, and a model is made for it. The zero value is one picture of now
// and one action.
type Observation struct {
	Cameras int  // pictures of each time; 0: one
	History int  // times that are seen, the last of which is now; 0: now alone
	Chunk   int  // actions to predict, the first of which is now's; 0: one
	State   bool // the robot's state at each time
}

// cameras, history and chunk are the numbers, at least 1.
func (o Observation) cameras() int { return max(o.Cameras, 1) }
func (o Observation) history() int { return max(o.History, 1) }
func (o Observation) chunk() int   { return max(o.Chunk, 1) }

// plain says whether a model of one picture and one action takes it.
func (o Observation) plain() bool {
	return o.cameras() == 1 && o.history() == 1 && o.chunk() == 1 && !o.State
}

// Views are the features of its pictures: of each time, the oldest first, one of
// each camera.
func (o Observation) Views() (names []string) {
	for past := o.history() - 1; past >= 0; past-- {
		for camera := range o.cameras() {
			names = append(names, View(camera, past))
		}
	}
	return names
}

// Names are its features, instruction and actions among them.
func (o Observation) Names() []string {
	names := o.Views()
	if o.State {
		names = append(names, State)
	}
	if o.history() > 1 {
		names = append(names, Past)
	}
	names = append(names, Instruction, Actions)
	if o.chunk() > 1 {
		names = append(names, Valid)
	}
	return names
}

// state and actions are the features of so many values at a time.
func (o Observation) state(dim int) Feature {
	if o.history() > 1 {
		return Known(State, o.history(), dim)
	}
	return Known(State, dim)
}

func (o Observation) actions(dim int) Feature {
	if o.chunk() > 1 {
		return Known(Actions, o.chunk(), dim)
	}
	return Known(Actions, dim)
}

// observationOf is the Observation that samples of s show.
func observationOf(s Spec) (o Observation) {
	for _, f := range s {
		camera, past, ok := ViewOf(f.Name)
		switch {
		case ok:
			o.Cameras, o.History = max(o.Cameras, camera+1), max(o.History, past+1)
		case f.Name == State:
			o.State = true
		case f.Name == Actions && len(f.Shape) > 1:
			o.Chunk = f.Shape[0]
		}
	}
	return o
}

// observing are the options of data that say what its samples show.
type observing interface{ Observation() Observation }

// View is the feature of a camera's picture so many frames ago: images of the
// first camera now, images_1 of the second, images_past_1 and images_1_past_1 of
// the frame before.
func View(camera, past int) string {
	name := Images
	if camera > 0 {
		name += "_" + strconv.Itoa(camera)
	}
	if past > 0 {
		name += "_past_" + strconv.Itoa(past)
	}
	return name
}

// ViewOf is the camera and the time that View made the name of.
func ViewOf(name string) (camera, past int, ok bool) {
	rest, is := strings.CutPrefix(name, Images)
	if !is {
		return 0, 0, false
	}
	at, ago, old := strings.Cut(rest, "_past_")
	if old {
		past, _ = strconv.Atoi(ago)
	}
	if n, more := strings.CutPrefix(at, "_"); more {
		camera, _ = strconv.Atoi(n)
	}
	return camera, past, View(camera, past) == name
}

// checkObservation refuses what a kind of model cannot see or predict.
func (c Config) checkObservation(k *job.Checker) {
	if f := familyOf(c.Kind); f.observes || c.Sees.plain() {
		return
	}
	for _, x := range []struct {
		key string
		bad bool
	}{{"data.cameras", c.Sees.cameras() > 1}, {"data.state", c.Sees.State}, {"data.history", c.Sees.history() > 1}, {"data.chunk", c.Sees.chunk() > 1}} {
		if x.bad {
			k.Bad(x.key+" model.kind", "%s", fmt.Sprintf("a model of kind %s takes one picture and gives one action; want model.kind %s", c.Kind, VLA))
		}
	}
}
