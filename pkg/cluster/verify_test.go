package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// verifying are the assignments of a generation that verifies a share.
func verifying(secret string, share float64, bounds []int) (l []*Assign) {
	for r := range len(bounds) - 1 {
		id := fmt.Sprint("w", r)
		v := &Verify{Key: verifyKey([]byte(secret), 1, id), Share: share}
		l = append(l, &Assign{Group: allreduce.Group{Generation: 1, Rank: r, Micro: bounds}, First: bounds, Step: 1000, Verify: v})
	}
	return l
}

// Each rank draws by a key of its own which micro-batches of others it computes again:
// none of its own, each by one rank at most, all of them where all are to be, and which,
// no other rank's key says.
func TestChecksAreAWorkersOwn(t *testing.T) {
	for _, bounds := range [][]int{{0, 2, 4, 6, 8}, {0, 5, 8}, {0, 3, 3, 4, 8}, {0, 1, 2, 3, 8}} {
		for _, group := range []int{1, 3} {
			for step := range uint64(7) {
				var all []int
				for _, a := range verifying("s", 1, bounds) {
					l := a.Checks(step, group)
					for _, m := range l {
						if r := a.Group.Rank; m >= bounds[r]*group && m < bounds[r+1]*group {
							t.Fatalf("bounds %v: rank %d checks its own micro-batch %d", bounds, r, m)
						}
					}
					all = append(all, l...)
				}
				slices.Sort(all)
				if len(all) != 8*group || len(slices.Compact(all)) != 8*group {
					t.Fatalf("bounds %v, step %d: checked are %v, want each once", bounds, step, all)
				}
			}
		}
	}
	for _, bounds := range [][]int{{0, 8}, {0, 8, 8}} {
		for _, a := range verifying("s", 1, bounds) {
			if l := a.Checks(0, 1); l != nil {
				t.Errorf("bounds %v: rank %d checks %v, and nobody else computes", bounds, a.Group.Rank, l)
			}
		}
	}
	bounds := []int{0, 2, 4, 6, 8}
	mine, theirs := verifying("s", 0.5, bounds)[0], verifying("s", 0.5, bounds)[1]
	same, of := 0, 0
	guess := *mine
	guess.Verify = theirs.Verify
	for step := range uint64(1000) {
		a, b := mine.Checks(step, 1), guess.Checks(step, 1)
		for _, m := range []int{2, 3, 4, 5, 6, 7} {
			if slices.Contains(a, m) {
				of++
				if slices.Contains(b, m) {
					same++
				}
			}
		}
	}
	if of < 900 || same > of*6/10 || same < of*4/10 {
		t.Errorf("of %d micro-batches that a rank checks, another one's key says %d, want about half: as many as a coin", of, same)
	}
	mine.Verify.First, mine.Verify.Share = true, 0
	if len(mine.Checks(1000, 1)) != 2 || len(mine.Checks(1001, 1)) != 0 {
		t.Errorf("of a step after a dispute are checked %v, of the next one %v", mine.Checks(1000, 1), mine.Checks(1001, 1))
	}
}

// How soon a liar is found: one of four that lies in one of ten of its micro-batches,
// where 0.05 of all are verified.
func TestHowSoon(t *testing.T) {
	const runs, limit = 300, 2000
	bounds := []int{0, 2, 4, 6, 8}
	var when []int
	checked, all := 0, 0
	for i := range runs {
		ranks := verifying(fmt.Sprint("secret ", i), 0.05, bounds)
		at, sent := 0, 0
		for step := uint64(0); at == 0; step++ {
			var lies []int
			for m := bounds[3]; m < bounds[4]; m++ {
				if sent%10 == 6 {
					lies = append(lies, m)
				}
				sent++
			}
			for _, a := range ranks {
				for _, m := range a.Checks(step, 1) {
					if checked++; slices.Contains(lies, m) {
						at = int(step+1) * 8
					}
				}
			}
			all += 8
		}
		when = append(when, at)
	}
	slices.Sort(when)
	within, _ := slices.BinarySearch(when, limit+1)
	t.Logf("verified were %.4f of all; found within %d micro-batches of the job: %d of %d; half within %d, 99 of 100 within %d",
		float64(checked)/float64(all), limit, within, runs, when[runs/2], when[runs*99/100])
	if within < runs*87/100 || within > runs*97/100 { // 1 - 0.95^50 is 0.923
		t.Errorf("found within %d micro-batches: %d of %d, want about 277", limit, within, runs)
	}
	if p := float64(checked) / float64(all); p < 0.047 || p > 0.053 {
		t.Errorf("%.4f of all micro-batches are verified, want 0.05", p)
	}
}

// What statements say survives the sum, in which they stand beside zeros, to the bit.
func TestStatementsSurviveTheSum(t *testing.T) {
	for _, sum := range []uint32{0, 1, 0xffff, 0x10000, 0xfffffffe, 0xffffffff, 0x8badf00d} {
		by, other := make([]float32, StatementFloats), make([]float32, StatementFloats)
		Claim(by, sum)
		Check(other, ^sum)
		for i := range by {
			by[i] += other[i]
		}
		if claim, check, checked := Stated(by); claim != sum || check != ^sum || !checked {
			t.Errorf("%08x and %08x became %08x and %08x, %v", sum, ^sum, claim, check, checked)
		}
		if Unsay(by); by[2] != 0 {
			t.Error("a check is still there")
		}
		if claim, _, checked := Stated(by); claim != sum || checked {
			t.Errorf("without a check: %08x, %v", claim, checked)
		}
	}
}
