package train

import (
	"bytes"
	"slices"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// The checksum that updates leave is that of the weights, after every step of every test
// of a squad (rank.sumsHold), and here: by any number of threads, with parameters that
// are frozen or have a rate of their own, with pieces of any size, after a restore and a
// reset; and an update in pieces is the update in one.
func TestSumsOfUpdates(t *testing.T) {
	sets := map[string][]string{
		"all":     nil,
		"average": {"optimizer.ema=true"},
		"groups":  {"optimizer.groups=[{match: '*.bias', lr: 0.1}, {match: '*norm*', weight_decay: 0}]"},
		"frozen":  {"train.freeze=['vision*']"},
	}
	for name, set := range sets {
		t.Run(name, func(t *testing.T) {
			want := ""
			for _, threads := range []int{1, 2, 3} {
				for _, size := range []int{64, 200, 1 << 10, summed} {
					s := newSquad(t, set...)
					r := s.rank("a")
					rt := tensor.NewRuntime(threads)
					r.rt, r.sums = rt, sumsOf(r.params.Values(), size)
					bounds := []int{0, s.job.Groups()}
					s.form(bounds, r)
					first := r.WeightsSum()
					for range 3 {
						s.step(bounds, r)
						left := 0
						for _, known := range r.sums.known {
							if !known {
								left++
							}
						}
						if name == "all" && left > 0 {
							t.Errorf("%d threads, pieces of %d: a step leaves %d of %d pieces to be summed", threads, size, left, len(r.sums.of))
						}
					}
					if want == "" {
						want = r.Digest()
					}
					if got := r.Digest(); got != want {
						t.Errorf("%d threads, pieces of %d: %s, want %s", threads, size, got, want)
					}
					whole, err := r.Part(0, 1, nil)
					if err != nil {
						t.Fatal(err)
					}
					var files []*safetensors.File
					for _, p := range whole {
						f, err := safetensors.Read(bytes.NewReader(slices.Clone(p.Data)), p.Total, p.File)
						if err != nil {
							t.Fatal(err)
						}
						files = append(files, f)
					}
					if err := r.Reset(s.job.Seed, nil); err != nil {
						t.Fatal(err)
					}
					if got := r.WeightsSum(); got != first {
						t.Errorf("after a reset the checksum is %s, want %s", got, first)
					}
					if err := r.Restore(3, files[0], files[1], want); err != nil {
						t.Fatal(err)
					}
					if err := r.sumsHold(); err != nil {
						t.Errorf("after a restore: %v", err)
					}
					rt.Close()
				}
			}
		})
	}
}
