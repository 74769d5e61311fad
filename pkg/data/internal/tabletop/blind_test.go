package tabletop

import (
	"math"
	"testing"
)

// What ignoring the image or the instruction costs at least. Actions are in
// units of their standard deviation, as training sees them, so that always
// saying the mean has the squared error 1 (docs quote these numbers; run with
// -v to print them).
//
//   - No instruction: the exact best there is, WithoutInstruction, which sees
//     the whole state.
//   - No image: the mean action of each meaning that an instruction can have
//     (verb, relation, whether there is a second object, shape of the first),
//     fitted on other episodes. Colours and second shapes tell next to nothing.
func TestBlindBaselines(t *testing.T) {
	for _, scene := range []Scene{Cluttered, Simple} {
		t.Run(scene.String(), func(t *testing.T) { testBlind(t, scene) })
	}
}

func testBlind(t *testing.T, scene Scene) {
	const fit, eval = 40000, 5000 // episodes
	type class struct {
		verb     Verb
		rel      relation
		relative bool
		shape    Shape
	}
	of := func(f *Frame) class {
		return class{f.Task.Verb, f.Task.Rel, f.Task.B >= 0, f.Objects[f.Task.A].Shape}
	}
	var n float64
	var mean, sq Action
	sums, counts := map[class]*Action{}, map[class]float64{}
	for id := uint64(0); id < fit; id++ {
		e := scene.NewEpisode(1, id)
		for k := 0; k < Frames; k++ {
			f := e.Frame(k)
			a, c := f.Expert(), of(f)
			if sums[c] == nil {
				sums[c] = &Action{}
			}
			counts[c]++
			n++
			for d, v := range a {
				mean[d] += v
				sq[d] += v * v
				sums[c][d] += v
			}
		}
	}
	var std Action
	for d := range mean {
		mean[d] /= n
		std[d] = math.Sqrt(sq[d]/n - mean[d]*mean[d])
	}

	type score struct {
		mse, l1 float64
		mae     Action
	}
	names := []string{"training mean", "no image", "no instruction"}
	scores := make([]score, len(names))
	const total = eval * Frames
	for id := uint64(fit); id < fit+eval; id++ {
		e := scene.NewEpisode(1, id)
		for k := 0; k < Frames; k++ {
			f := e.Frame(k)
			a, c := f.Expert(), of(f)
			var noImage Action
			for d := range noImage {
				noImage[d] = sums[c][d] / counts[c]
			}
			for i, p := range []Action{mean, noImage, f.WithoutInstruction()} {
				for d := range p {
					x := math.Abs(p[d] - a[d])
					scores[i].mae[d] += x / total
					scores[i].l1 += x / std[d] / total / 7
					scores[i].mse += x * x / std[d] / std[d] / total / 7
				}
			}
		}
	}
	t.Logf("%-16s %6s %6s   MAE: Δx Δy Δz mm, Δroll Δpitch Δyaw mrad, gripper", "policy", "MSE", "L1")
	for i, s := range scores {
		t.Logf("%-16s %6.3f %6.3f   %5.1f %5.1f %5.1f  %5.0f %5.0f %5.0f  %5.3f", names[i], s.mse, s.l1,
			1000*s.mae[0], 1000*s.mae[1], 1000*s.mae[2], 1000*s.mae[3], 1000*s.mae[4], 1000*s.mae[5], s.mae[6])
	}
	// A policy that sees both can reach 0. What the blind ones cannot get below
	// must stay a large part of the mean's error.
	if m := scores[0].mse; m < 0.95 || m > 1.05 {
		t.Errorf("the mean's squared error is %.3f standard deviations, expected about 1", m)
	}
	if m := scores[1].mse; m < 0.6 || m > 0.95 {
		t.Errorf("without the image the squared error is %.3f, expected 0.6 to 0.95", m)
	}
	if m := scores[2].mse; m < 0.25 || m > 0.75 {
		t.Errorf("without the instruction the squared error is %.3f, expected 0.25 to 0.75", m)
	}
}
