package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
)

// A share of the micro-batches of others is computed again (cluster.verify), and
// what comes out is compared in the step's own sum: behind the gradients and losses
// that the ring sums stand statements, of each micro-batch what its rank says that
// its gradient is, and what the rank says that has computed it again. Nobody else
// adds to those places, so all ranks read the same statements in the same total,
// before any of them has applied it.
//
//	micro-batch m   │ claim: checksum (2 floats) │ checked (1) │ checksum (2) │
//
// Which rank may check a rank in a step is known to all, and changes with each step.
// Whether it does is a coin of its own, of a key that the coordinator tells it alone.

// Verify has a rank compute micro-batches of others again.
type Verify struct {
	Key   string  `json:"key"`             // of this rank's coins, in hexadecimal digits; no other rank is told
	Share float64 `json:"share"`           // of the micro-batches that are checked, 0 to 1
	First bool    `json:"first,omitempty"` // of the generation's first step all are: they were in dispute
}

// StatementFloats is how many float32 the statements on one micro-batch take.
const StatementFloats = 5

// Claim writes the checksum of a gradient by the rank that has computed it. Halves of
// 16 bits are exact, and zeros are added to them.
func Claim(at []float32, sum uint32) { at[0], at[1] = float32(sum&0xffff), float32(sum>>16) }

// Check writes the checksum by the rank that has computed the gradient again.
func Check(at []float32, sum uint32) {
	at[2] = 1
	at[3], at[4] = float32(sum&0xffff), float32(sum>>16)
}

// Unsay clears what Check wrote.
func Unsay(at []float32) { clear(at[2:StatementFloats]) }

// Stated reads both. checked: there are two.
func Stated(at []float32) (claim, check uint32, checked bool) {
	word := func(lo, hi float32) uint32 { return uint32(lo) | uint32(hi)<<16 }
	return word(at[0], at[1]), word(at[3], at[4]), at[2] != 0
}

// checkers pairs the ranks of a step that have micro-batches: rank by rank who may
// check it, -1 where nobody does. bounds are those of the step. Each rank checks one
// other, in each step another one.
func checkers(step uint64, bounds []int) []int {
	var active []int
	by := make([]int, len(bounds)-1)
	for r := range by {
		by[r] = -1
		if bounds[r+1] > bounds[r] {
			active = append(active, r)
		}
	}
	n := len(active)
	if n < 2 {
		return by
	}
	shift := 1 + int(step%uint64(n-1))
	for i, r := range active {
		by[r] = active[(i+shift)%n]
	}
	return by
}

// of are the bounds of a step of the assignment, which is counted from 0.
func (a *Assign) of(step uint64) []int {
	if step == a.Step {
		return a.First
	}
	return a.Group.Micro
}

// Checks are the micro-batches of others, in ascending order, that the assigned rank
// computes again in a step, which is counted from 0. group is how many micro-batches
// a group has, in which bounds are counted.
func (a *Assign) Checks(step uint64, group int) (l []int) {
	v := a.Verify
	if v == nil {
		return nil
	}
	key, err := hex.DecodeString(v.Key)
	if err != nil {
		return nil
	}
	bounds := a.of(step)
	for owner, by := range checkers(step, bounds) {
		if by != a.Group.Rank {
			continue
		}
		for m := bounds[owner] * group; m < bounds[owner+1]*group; m++ {
			if v.First && step == a.Step || coin(key, step, m) < v.Share {
				l = append(l, m)
			}
		}
	}
	return l
}

// coin is in [0, 1).
func coin(key []byte, step uint64, m int) float64 {
	h := hmac.New(sha256.New, key)
	h.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, step), uint64(m)))
	return math.Ldexp(float64(binary.LittleEndian.Uint64(h.Sum(nil))>>11), -53)
}

// Verdict is what a worker says of a micro-batch on which two statements of one sum
// differ: it has computed it as well. It goes with Standing.
type Verdict struct {
	Step    uint64 `json:"step"` // in whose sum they stood, from 1; it is not committed
	Micro   int    `json:"micro"`
	Owner   string `json:"owner"`   // the worker that sent the gradient
	Checker string `json:"checker"` // the worker that computed it again
	Claim   string `json:"claim"`   // the checksum by the owner
	Check   string `json:"check"`   // by the checker
	Own     string `json:"own"`     // by this worker
}

// Verdict is the assigned rank's on micro-batch m of a step, which is counted from 0.
func (a *Assign) Verdict(step uint64, m, group int, claim, check, own uint32) Verdict {
	v := Verdict{Step: step + 1, Micro: m, Claim: sumText(claim), Check: sumText(check), Own: sumText(own)}
	bounds := a.of(step)
	for owner, by := range checkers(step, bounds) {
		if by >= 0 && m >= bounds[owner]*group && m < bounds[owner+1]*group {
			v.Owner, v.Checker = a.Group.Members[owner], a.Group.Members[by]
		}
	}
	return v
}

func sumText(sum uint32) string { return fmt.Sprintf("%08x", sum) }

// check says why a verdict cannot be one.
func (v *Verdict) check(cfg *Config) error {
	if v.Step == 0 || v.Step > cfg.Steps || v.Micro < 0 || v.Micro > math.MaxInt32 {
		return fmt.Errorf("a verdict on micro-batch %d of step %d", v.Micro, v.Step)
	}
	if ValidID(v.Owner) != nil || ValidID(v.Checker) != nil || v.Owner == v.Checker {
		return fmt.Errorf("a verdict on workers %.64q and %.64q", v.Owner, v.Checker)
	}
	for _, s := range []string{v.Claim, v.Check, v.Own} {
		if len(s) != 8 {
			return fmt.Errorf("a verdict with checksum %.64q", s)
		}
	}
	return nil
}

// verifyKey is of a rank's coins in a generation.
func verifyKey(secret []byte, generation uint64, worker string) string {
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "verify %d %s", generation, worker)
	return hex.EncodeToString(h.Sum(nil))
}
