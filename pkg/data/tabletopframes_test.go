package data

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Rollouts show both cameras, the state and chunks of what the expert does next;
// what a job of one picture sees is not touched by them.
func TestTabletopFrames(t *testing.T) {
	needs := frameNeeds(16)
	cfg := of(job.Data{Kind: "tabletop"}, append(frameKeys("gripper", "side", "front"), "Scene", "simple", "Episodes", 3)...)
	d, err := Open(cfg, needs, 7, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if m.Train != 24 || m.StatsOf(models.State).Names[7] != "holding" || m.StatsOf(models.State).Units[0] != "m" || m.Spec.Find(models.Images).Called() != "side" {
		t.Fatalf("%d samples, %+v, %s", m.Train, m.StatsOf(models.State), m.Spec)
	}
	var before Sample
	for i := range 24 {
		s, err := d.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		now, actions := valueOf(t, d, s, models.State).Floats[8:], valueOf(t, d, s, models.Actions).Floats
		if i%8 > 0 { // this state is what the action has led to
			was, did := valueOf(t, d, before, models.State).Floats[8:], valueOf(t, d, before, models.Actions).Floats
			for k := range 3 {
				if e := now[k] - was[k] - did[k]; e > 1e-6 || e < -1e-6 {
					t.Errorf("sample %d: dimension %d is %v after %v and %v", i, k, now[k], was[k], did[k])
				}
			}
			if !reflect.DeepEqual(did[7:14], actions[:7]) {
				t.Errorf("sample %d: the second action of the chunk before is %v, the first of this is %v", i, did[7:14], actions[:7])
			}
			for camera := range 2 {
				if !reflect.DeepEqual(valueOf(t, d, s, models.View(camera, 1)).RGB, valueOf(t, d, before, models.View(camera, 0)).RGB) {
					t.Errorf("sample %d: camera %d: the picture of before is another", i, camera)
				}
			}
		}
		if got, want := valueOf(t, d, s, models.Valid).Floats, marks(4, min(4, 8-i%8)); !reflect.DeepEqual(got, want) {
			t.Errorf("sample %d: valid %v, want %v", i, got, want)
		}
		if reflect.DeepEqual(valueOf(t, d, s, models.View(0, 0)).RGB, valueOf(t, d, s, models.View(1, 0)).RGB) {
			t.Errorf("sample %d: both cameras show the same", i)
		}
		before = s
	}
	again, err := Open(cfg, needs, 7, ".", &m)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	for _, c := range []struct {
		options []any
		want    string
	}{
		{frameKeys("gripper", "front", "wrist"), `data.cameras[1]`},
		{frameKeys("joints", "front", "side"), `data.state[0]`},
	} {
		if _, err := Open(of(cfg, c.options...), needs, 7, ".", nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.options, err)
		}
	}
}
