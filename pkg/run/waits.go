package run

import (
	"math"
	"time"
)

// waits sums up what each worker waits for the ring, for a line of the journal every
// few seconds, and of a long run ever less often: the lines of a year fit the file.
type waits struct {
	began, from time.Time // of the first line, and of the next one
	of          map[string]*RingWait
}

// often is the least time between two lines; longRun is the share of the time so far that
// there is at least between them.
const (
	often   = 5 * time.Second
	longRun = 500
)

// add takes a step, and gives the line that is due, or nil.
func (w *waits) add(now time.Time, l []RingWait) map[string]any {
	if w.began.IsZero() {
		w.began, w.from = now, now
	}
	for _, x := range l {
		if w.of == nil {
			w.of = map[string]*RingWait{}
		}
		sum := w.of[x.Worker]
		if sum == nil {
			sum = &RingWait{Worker: x.Worker}
			w.of[x.Worker] = sum
		}
		sum.Wait, sum.Step = sum.Wait+x.Wait, sum.Step+x.Step
	}
	if now.Sub(w.from) < max(often, now.Sub(w.began)/longRun) {
		return nil
	}
	return w.take(now)
}

// take is the line of what there is; nil: there is nothing.
func (w *waits) take(now time.Time) map[string]any {
	if len(w.of) == 0 {
		return nil
	}
	ms := func(s float64) float64 { return math.Round(s*1e3) / 1e3 }
	of := map[string][2]float64{}
	for id, x := range w.of {
		of[id] = [2]float64{ms(x.Wait), ms(x.Step)}
	}
	line := map[string]any{"seconds": ms(now.Sub(w.from).Seconds()), "ring": of}
	w.from, w.of = now, nil
	return line
}
