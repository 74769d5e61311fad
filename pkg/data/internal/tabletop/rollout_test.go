package tabletop

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"
)

// A rollout follows from its first frame: the gripper goes where the action says,
// and what it holds goes with it. Most that are to be lifted are held in the end or
// about to be.
func TestRollout(t *testing.T) {
	held, lifts, pushed, pushes := 0, 0, 0, 0
	for id := range uint64(400) {
		e := Scene(id&1).NewEpisode(5, id)
		frames := e.Rollout()
		if len(frames) != RolloutFrames {
			t.Fatal(len(frames))
		}
		for k := 1; k < len(frames); k++ {
			was, now, a := frames[k-1].State(), frames[k].State(), frames[k-1].Expert()
			for d := range 6 {
				if math.Abs(now[d]-was[d]-a[d]) > 1e-12 {
					t.Fatalf("episode %d frame %d: dimension %d goes from %v to %v, the action is %v", id, k, d, was[d], now[d], a[d])
				}
			}
			if now[6] != a[6] {
				t.Fatalf("episode %d frame %d: open %v, the action says %v", id, k, now[6], a[6])
			}
			if h := frames[k].Gripper.Held; h >= 0 {
				if o := frames[k].Objects[h]; now[7] != 1 || o.X != now[0] || o.Y != now[1] {
					t.Fatalf("episode %d frame %d: what is held does not move along", id, k)
				}
			}
			for _, o := range frames[k].Objects {
				if o.Z < -0.02 {
					t.Fatalf("episode %d frame %d: an object is at %v, below the table", id, k, o.Z)
				}
			}
		}
		first, last := frames[0], frames[len(frames)-1]
		switch {
		case e.Task.Verb == pickUp:
			lifts++
			held += int(last.State()[7])
		case e.Task.Verb == Push && first.Gripper.Held < 0:
			pushes++
			if a, b := first.Objects[e.Task.A], last.Objects[e.Task.A]; a.X != b.X || a.Y != b.Y {
				pushed++
			}
		}
	}
	if 2*held < lifts || 6*pushed < pushes {
		t.Errorf("%d of %d are held at the end, %d of %d were pushed", held, lifts, pushed, pushes)
	}
}

// Rollouts and both views are the same bits wherever this test runs. A changed hash
// means a changed recipe: raise RolloutVersion.
func TestRolloutBits(t *testing.T) {
	h := sha256.New()
	camera, pix := NewSideCamera(32), make([]byte, 32*32*3)
	for id := range uint64(20) {
		for _, f := range Scene(id&1).NewEpisode(7, id).Rollout() {
			f.Render(camera, pix)
			h.Write(pix)
			for _, v := range f.State() {
				binary.Write(h, binary.LittleEndian, math.Float64bits(v))
			}
		}
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), "be21d1eec1ab9fcc5eb35f91ae8385ec75bb70ad4b26dd911c018fbe1f78d53c"; got != want {
		t.Errorf("hash of 160 frames is %s, want %s", got, want)
	}
}
