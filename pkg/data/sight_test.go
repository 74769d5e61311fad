package data

import (
	"math"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The way of a sample's actions begins where its state has the gripper, and comes by
// the place of the next frame's; a cropped picture shows it larger, about the middle.
func TestSight(t *testing.T) {
	cfg := of(job.Data{Kind: "tabletop"}, append(frameKeys("gripper", "side", "front"), "Scene", "simple", "Episodes", 3)...)
	d, err := Open(cfg, frameNeeds(16), 7, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	sight := SightOf(cfg.Options, 7)
	cropped := *sight
	cropped.side = 0.5
	for i := range 24 {
		s, err := d.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		now, actions := valueOf(t, d, s, models.State).Floats[8:], valueOf(t, d, s, models.Actions).Floats
		g := sight.Gripper(s.ID)
		for k := range 3 {
			if math.Abs(g[k]-float64(now[k])) > 1e-6 {
				t.Fatalf("sample %d: the gripper is at %v, the state has %v", i, g, now[:3])
			}
		}
		for camera := range 2 {
			way := sight.Way(camera, g, [][]float32{actions[:7]})
			if len(way) != 2 {
				t.Fatalf("sample %d: %v", i, way)
			}
			if i%8 < 7 {
				next := sight.Way(camera, sight.Gripper(s.ID+1), nil)
				if math.Hypot(next[0][0]-way[1][0], next[0][1]-way[1][1]) > 1e-6 {
					t.Errorf("sample %d, camera %d: the action leads to %v, the next frame is at %v", i, camera, way[1], next[0])
				}
			}
			if c := cropped.Way(camera, g, nil)[0]; math.Abs(c[0]-0.5-2*(way[0][0]-0.5)) > 1e-9 || math.Abs(c[1]-0.5-2*(way[0][1]-0.5)) > 1e-9 {
				t.Errorf("of the middle quarter %v, of all %v", c, way[0])
			}
		}
		if way := sight.Way(2, g, nil); way != nil {
			t.Errorf("a third camera: %v", way)
		}
	}
	one := of(job.Data{Kind: "tabletop"}, "Episodes", 4, "Augment", Augment{Crop: 0.81})
	if s := SightOf(one.Options, 1); math.Abs(s.side-0.9) > 1e-12 || s.Gripper(5) == s.Gripper(6) {
		t.Errorf("%+v", s)
	}
	if s := SightOf(of(job.Data{Kind: "copy"}).Options, 1); s != nil {
		t.Errorf("of data without a camera: %+v", s)
	}
}
