package data

import (
	"math"

	"github.com/vlaring/vlaring/pkg/data/internal/tabletop"
	"github.com/vlaring/vlaring/pkg/job"
)

// Sight says where things are in the pictures of data whose cameras are known: the
// tabletop's, which draws its own.
type Sight struct {
	k       Tabletop
	seed    uint64
	cameras []*tabletop.Camera
	side    float64 // of the middle of a picture that is seen
}

// SightOf is that of data of those options and seed; nil: nobody knows where its
// cameras stand.
func SightOf(o job.Options, seed uint64) *Sight {
	k, ok := o.(Tabletop)
	if !ok {
		return nil
	}
	s := &Sight{k: k, seed: seed, side: 1}
	for _, name := range k.eyes() {
		s.cameras = append(s.cameras, tabletopCamera(name, 1))
	}
	if k.Augment.Crop > 0 {
		s.side = math.Sqrt(k.Augment.Crop)
	}
	return s
}

// Gripper is where it was in the sample of a number in the whole data set.
func (s *Sight) Gripper(id uint64) [3]float64 {
	var f *tabletop.Frame
	if s.k.rolls() {
		f = s.k.scene().NewEpisode(s.seed, id/tabletop.RolloutFrames).Rollout()[id%tabletop.RolloutFrames]
	} else {
		f = s.k.scene().NewEpisode(s.seed, id/tabletop.Frames).Frame(int(id % tabletop.Frames))
	}
	return [3]float64{f.Gripper.X, f.Gripper.Y, f.Gripper.Z}
}

// Way is where the gripper comes to by actions, one after the other, from a place on: in
// each camera's pictures, as the model sees them, in shares of their width from the left
// and of their height from the top. It begins with the place itself.
func (s *Sight) Way(camera int, from [3]float64, actions [][]float32) (points [][2]float64) {
	add := func() bool {
		x, y, ok := s.cameras[camera].Project(from[0], from[1], from[2])
		middle := func(v float64) float64 { return (v-0.5)/s.side + 0.5 }
		points = append(points, [2]float64{middle(x), middle(y)})
		return ok
	}
	if camera >= len(s.cameras) || !add() {
		return nil
	}
	for _, a := range actions {
		for d := range from {
			from[d] += float64(a[d])
		}
		if !add() {
			return points[:len(points)-1]
		}
	}
	return points
}
