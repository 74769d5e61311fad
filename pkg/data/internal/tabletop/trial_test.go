package tabletop

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"testing"
)

var bothScenes = []Scene{Cluttered, Simple}

// run is a trial under a policy: the last frame, and after how many actions the goal
// was reached; 0: it was not.
func (t Trial) run(policy func(*Frame) Action) (*Frame, int) {
	f := t.Start
	for k := 1; k <= TrialSteps; k++ {
		if f = f.Act(policy(f)); t.Done(f) {
			return f, k
		}
	}
	return f, 0
}

// The expert does all that it is asked, in less than half of the steps that there are.
func TestExpertSucceeds(t *testing.T) {
	for _, scene := range bothScenes {
		all, longest := map[string]int{}, 0
		for id := range uint64(4000) {
			trial := scene.NewTrial(1, id)
			f, steps := trial.run((*Frame).Expert)
			if steps == 0 {
				t.Errorf("%s, trial %d: %q from %+v ends at %+v, %+v", scene, id, trial.Start.Text, trial.Start.Objects, f.Objects, f.Gripper)
			}
			all[trial.Task]++
			longest = max(longest, steps)
		}
		t.Log(scene, all, "longest:", longest)
		if 2*longest > TrialSteps {
			t.Errorf("%s: the expert takes up to %d of %d steps", scene, longest, TrialSteps)
		}
		for _, task := range scene.Tasks() {
			if all[task] < 150 {
				t.Errorf("%s: %d trials of %q", scene, all[task], task)
			}
			delete(all, task)
		}
		if len(all) > 0 {
			t.Errorf("%s: tasks without a name: %v", scene, all)
		}
	}
}

// Nothing comes of itself: not of no action, of fingers that open or close where they
// are, of the mean action of either kind of data, nor of one and the same action.
func TestNoExpertNoSuccess(t *testing.T) {
	for _, scene := range bothScenes {
		var mean [2]Action
		const episodes = 1000
		for id := range uint64(episodes) {
			e := scene.NewEpisode(3, id)
			for k := range Frames {
				for d, v := range e.Frame(k).Expert() {
					mean[0][d] += v / episodes / Frames
				}
			}
			for _, f := range e.Rollout() {
				for d, v := range f.Expert() {
					mean[1][d] += v / episodes / RolloutFrames
				}
			}
		}
		for _, a := range []Action{{}, {6: 1}, mean[0], mean[1]} {
			for id := range uint64(1000) {
				trial := scene.NewTrial(1, id)
				if _, steps := trial.run(func(*Frame) Action { return a }); steps > 0 {
					t.Errorf("%s, trial %d: %q is done by %v", scene, id, trial.Start.Text, a)
				}
			}
		}
	}
}

// Trials are none of training's episodes, of the same seed or another, and each is
// drawn anew.
func TestTrialsAreApart(t *testing.T) {
	for _, scene := range bothScenes {
		seen := map[[2]float64]bool{}
		for seed := range uint64(3) {
			for id := range uint64(3000) {
				o := scene.NewEpisode(seed, id).home[0]
				seen[[2]float64{o.X, o.Y}] = true
			}
		}
		again := 0
		for id := range uint64(1000) {
			f := scene.NewTrial(1, id).Start
			if o := f.Objects[0]; seen[[2]float64{o.X, o.Y}] {
				again++
			}
		}
		if again > 200 { // places are on a grid of 271 × 321
			t.Errorf("%s: %d of 1000 trials begin with an object where an episode of training has it", scene, again)
		}
	}
}

// The world's rules, one by one.
func TestAct(t *testing.T) {
	at := func(g Gripper, objects ...object) *Frame {
		g.Open, g.Held = true, -1
		return &Frame{Objects: objects, Gripper: g, scene: Simple}
	}
	closed, open := Action{}, Action{6: 1}
	cubeAt := func(x, y float64) object { return object{Shape: cube, X: x, Y: y} }

	f := at(Gripper{X: 0.4, Z: 0.03}, cubeAt(0.41, 0.005)).Act(closed)
	if f.Gripper.Held != 0 || f.Objects[0].X != 0.4 {
		t.Error("fingers that close about a cube do not take it")
	}
	if f.Act(closed).Act(open).Gripper.Held != -1 {
		t.Error("open fingers still hold")
	}
	for name, g := range map[string]Gripper{"aside": {X: 0.43, Z: 0.03}, "above": {X: 0.4, Z: 0.05}} {
		if at(g, cubeAt(0.4, 0)).Act(closed).Gripper.Held >= 0 {
			t.Errorf("fingers that close %s take the cube", name)
		}
	}
	if f := at(Gripper{X: 0.36, Z: 0.03}, cubeAt(0.4, 0)).Act(closed).Act(Action{0: 0.04}); f.Gripper.Held >= 0 {
		t.Error("fingers that were closed before take what they come to")
	}

	for range 4 {
		f = f.Act(Action{2: 1})
	}
	if z := f.Objects[0].Z; math.Abs(z-(f.Gripper.Z-0.026)) > 1e-12 || math.Abs(f.Gripper.Z-0.19) > 1e-12 {
		t.Errorf("lifted four times by at most 0.04 the cube is at %v, the gripper at %v", z, f.Gripper.Z)
	}
	if f.Act(open).Objects[0].Z != 0 {
		t.Error("a cube that was let go stays in the air")
	}
	on := *f
	on.Objects = append(slices.Clone(f.Objects), object{Shape: brick, X: 0.41})
	dropped := on.Act(open)
	if dropped.Objects[0].Z != 2*on.Objects[1].half().z {
		t.Errorf("dropped onto a brick the cube is at %v", dropped.Objects[0].Z)
	}
	dropped.Gripper = Gripper{X: 0.41, Z: 0.019, Open: true, Held: -1}
	if took := dropped.Act(closed); took.Gripper.Held != 1 || took.Act(Action{2: 0.04}).Objects[0].Z != 0 {
		t.Error("what stood on something that is taken away stays in the air")
	}

	shut := at(Gripper{X: 0.34, Y: 0.01, Z: 0.025}, cubeAt(0.4, 0)).Act(closed)
	f = shut.Act(Action{0: 0.04}).Act(Action{0: 0.04})
	if o := f.Objects[0]; math.Abs(o.X-0.46) > 1e-12 || o.Y != 0 {
		t.Errorf("pushed by fingers that go to %v the cube is at %v, %v", f.Gripper.X, o.X, o.Y)
	}
	for name, g := range map[string]*Frame{"behind": shut.Act(Action{0: -0.04}), "away": shut.Act(Action{1: 0.04}).Act(Action{0: 0.04}), "open": shut.Act(Action{0: 0.04, 6: 1})} {
		if g.Objects[0] != cubeAt(0.4, 0) {
			t.Errorf("fingers that are %s push the cube to %v", name, g.Objects[0])
		}
	}

	wild := at(Gripper{X: 0.4, Z: 0.03}, cubeAt(0.4, 0)).Act(closed)
	for range 200 {
		wild = wild.Act(Action{5, -5, -5, 5, -5, 5, -3})
	}
	if g := wild.Gripper; g.X > roomFar || g.Y < -roomSide || wild.Objects[0].Z < -1e-12 || g.Roll > roomTilt+1e-12 || g.Pitch < -roomTilt-1e-12 || g.Yaw > roomYaw+1e-12 || g.Held != 0 {
		t.Errorf("wild actions lead to %+v, the cube to %+v", g, wild.Objects[0])
	}
}

// Trials and what becomes of them under actions of all sizes are the same bits
// wherever this test runs. A changed hash means a changed recipe.
func TestTrialBits(t *testing.T) {
	h := sha256.New()
	for id := range uint64(200) {
		trial := Scene(id&1).NewTrial(7, id)
		d := &draw{}
		d.s.Sample = id
		trial.run(func(f *Frame) Action {
			a := f.Expert()
			for i := range a {
				a[i] += mul(d.between(-1, 1), []float64{0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 0.6}[i])
			}
			for _, v := range f.State() {
				binary.Write(h, binary.LittleEndian, math.Float64bits(v))
			}
			for _, o := range f.Objects {
				binary.Write(h, binary.LittleEndian, []float64{o.X, o.Y, o.Z, o.Yaw})
			}
			return a
		})
		h.Write([]byte(trial.Start.Text))
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), "070706e64b31def0846c03372ab98cb166f8edcbfc8de2060da0c260d6fc15ea"; got != want {
		t.Errorf("hash of 200 trials is %s, want %s", got, want)
	}
}
