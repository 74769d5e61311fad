package tabletop

import (
	"slices"
	"strings"
)

// Verb is the kind of task; several words of an instruction mean the same one.
type Verb uint8

const (
	pickUp Verb = iota // close the fingers around A and lift it
	put                // carry A to its place relative to B
	Push               // push A in a direction, fingers closed
	verbs
)

// relation is a direction, or a place relative to an object.
type relation uint8

const (
	Left relation = iota
	Right
	front
	Behind
	on // top of B
	relations
)

// direction of each relation but On, as (x, y).
var direction = [on][2]float64{Left: {0, 1}, Right: {0, -1}, front: {-1, 0}, Behind: {1, 0}}

// beside is the distance between A and B when A is beside B.
const beside = 0.09

// The table's middle, and how far its sides are from there, as (x, y).
var (
	middle = [2]float64{0.40, 0}
	sides  = [2]float64{0.11, 0.13}
)

// Task is the meaning of an instruction.
type Task struct {
	Verb Verb
	A, B int // indices of objects; B -1: none, Rel is a direction or a side of the table
	Rel  relation
}

// The words. Left and right, behind and in front are as the camera sees them.
var (
	colourWords = [colours][]string{{"red"}, {"green"}, {"blue"}, {"yellow"}, {"purple", "violet"}, {"orange"}}
	shapeWords  = [shapes][]string{{"cube", "block"}, {"cylinder", "can"}, {"ball", "sphere"}, {"cone"}, {"brick", "bar"}}
	verbWords   = [verbs][]string{
		{"pick up", "grasp", "lift", "grab", "take"},
		{"put", "place", "set", "move", "bring"},
		{"push", "slide", "nudge", "shove"},
	}
	relationWords = [relations][]string{
		{"to the left of", "left of"},
		{"to the right of", "right of"},
		{"in front of"},
		{"behind", "at the back of"},
		{"on", "onto", "on top of"},
	}
	directionWords = [on][]string{
		{"to the left", "left", "leftwards"},
		{"to the right", "right", "rightwards"},
		{"towards you", "back", "closer"},
		{"forward", "away", "away from you"},
	}
	sideWords = [on][]string{
		{"on the left", "to the left side"},
		{"on the right", "to the right side"},
		{"in front", "at the front"},
		{"at the back", "at the far end"},
	}
)

const polite = "please"

// drawTask draws a task that the objects allow, and its words. Weighted lists
// the same choices with their chances.
func (scene Scene) drawTask(d *draw, objects []object) (Task, string) {
	w := scene.Weighted(objects)
	u := float64(d.intn(1<<30)) / (1 << 30)
	k := 0
	for sum := w[0].P; k < len(w)-1 && sum <= u; sum += w[k].P {
		k++
	}
	t := w[k].Task
	pick := func(words []string) string { return words[d.intn(len(words))] }
	noun := func(i int) string {
		return "the " + pick(colourWords[objects[i].Colour]) + " " + pick(shapeWords[objects[i].Shape])
	}
	parts := []string{pick(verbWords[t.Verb]), noun(t.A)}
	switch {
	case t.B >= 0:
		parts = append(parts, pick(relationWords[t.Rel]), noun(t.B))
	case t.Verb == Push:
		parts = append(parts, pick(directionWords[t.Rel]))
	case t.Verb == put:
		parts = append(parts, pick(sideWords[t.Rel]))
	}
	if d.intn(8) == 0 {
		parts = append([]string{polite}, parts...)
	}
	return t, strings.Join(parts, " ")
}

// chance is a task and how likely it is in a scene.
type chance struct {
	Task Task
	P    float64
}

// Weighted returns every task that the objects allow. The three verbs are
// equally likely, and so are all objects. In a simple scene a push has a
// direction and a put a side of the table. In a cluttered one a put has a place
// relative to another object; a push, a direction in half of the cases and such
// a place in the other half.
func (scene Scene) Weighted(objects []object) []chance {
	n := len(objects)
	var out []chance
	third := 1.0 / float64(verbs) / float64(n)
	for a := range objects {
		out = append(out, chance{Task{pickUp, a, -1, 0}, third})
		if scene == Simple {
			for r := Left; r < on; r++ {
				out = append(out, chance{Task{put, a, -1, r}, third / float64(on)}, chance{Task{Push, a, -1, r}, third / float64(on)})
			}
			continue
		}
		for r := Left; r < on; r++ {
			out = append(out, chance{Task{Push, a, -1, r}, third / 2 / float64(on)})
		}
		for b, o := range objects {
			if b == a {
				continue
			}
			rel := on
			if o.flat() {
				rel++
			}
			for r := Left; r < rel; r++ {
				out = append(out, chance{Task{put, a, b, r}, third / float64(n-1) / float64(rel)})
				if r < on {
					out = append(out, chance{Task{Push, a, b, r}, third / 2 / float64(n-1) / float64(on)})
				}
			}
		}
	}
	return out
}

// Words returns every word that an instruction can have, sorted.
func (scene Scene) Words() []string {
	all := []string{polite, "the"}
	places := relationWords[:]
	if scene == Simple {
		places = sideWords[:]
	}
	for _, list := range [][][]string{colourWords[:], shapeWords[:], verbWords[:], places, directionWords[:]} {
		for _, words := range list {
			for _, w := range words {
				all = append(all, strings.Fields(w)...)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// MaxWords is the length of the longest instruction: "please push the red cube
// to the left of the blue ball", "please pick up the red cube", …
func (scene Scene) MaxWords() int {
	if scene == Simple {
		return 9 // "please put the red cube to the left side"
	}
	return 12
}
