package cluster

import (
	"fmt"
	"testing"
	"time"
)

var ledgerNow = time.Unix(1000, 0)

func (l *ledger) hear(worker string, rank, world int, step uint64) bool {
	return l.enter(&Report{Worker: worker, Rank: rank, World: world, Step: step}, ledgerNow, world)
}

// A step is closed when all have reported it, in order, and once.
func TestLedgerClosesStepsInOrder(t *testing.T) {
	l := newLedger(0, 0, false)
	whole := (*stepReports).whole
	l.hear("a", 0, 2, 2)
	l.hear("b", 1, 2, 2)
	if r, _ := l.next(whole); r != nil || l.committed != 2 {
		t.Fatalf("step 2 is closed before step 1; committed %d", l.committed)
	}
	if !l.hear("b", 1, 2, 1) || l.hear("b", 1, 2, 1) {
		t.Fatal("a report counts once")
	}
	if r, _ := l.next(whole); r != nil {
		t.Fatal("step 1 is closed with one report of two")
	}
	l.hear("a", 0, 2, 1)
	for step := 1; step <= 2; step++ {
		r, news := l.next(whole)
		if r == nil || !news || len(r.list) != 2 || l.reported != uint64(step) || l.told != uint64(step) {
			t.Fatalf("step %d: %v, news %v, reported %d, told %d", step, r, news, l.reported, l.told)
		}
	}
	if l.hear("c", 2, 3, 2) {
		t.Error("a report of a closed step counts")
	}
	if r, _ := l.next(whole); r != nil {
		t.Errorf("step 3 is closed: %v", r)
	}
}

// What is run again after a rollback is compared again and told once.
func TestLedgerTellsOnce(t *testing.T) {
	l := newLedger(0, 0, false)
	all := func(*stepReports) bool { return true }
	for step := uint64(1); step <= 3; step++ {
		l.hear("a", 0, 1, step)
		l.next(all)
	}
	l.hear("a", 0, 1, 5) // one that nobody will hear of
	l.rollBack(1)
	l.runAgain()
	if l.committed != 1 || l.reported != 1 || l.told != 3 || len(l.steps) != 0 {
		t.Fatalf("after a rollback to step 1: %+v", l)
	}
	var told []string
	for step := uint64(2); step <= 4; step++ {
		l.hear("a", 0, 1, step)
		if r, news := l.next(all); r != nil {
			told = append(told, fmt.Sprint(step, news))
		}
	}
	if got := fmt.Sprint(told); got != "[2 false 3 false 4 true]" {
		t.Errorf("steps and whether they are news: %s", got)
	}
}

// In a takeover the metrics may be ahead of the disk: what they have is not run
// again, and need not be reported again. Without one it is.
func TestLedgerBegins(t *testing.T) {
	if l := newLedger(10, 14, true); l.reported != 14 || l.committed != 10 {
		t.Errorf("a takeover begins with %+v", l)
	}
	if l := newLedger(10, 14, false); l.reported != 10 || l.told != 14 {
		t.Errorf("a resumed run begins with %+v", l)
	}
}

// Steps whose reports another coordinator has are passed over once the nearest
// report has waited for long.
func TestLedgerPassesOverGaps(t *testing.T) {
	l := newLedger(3, 3, true)
	later := ledgerNow.Add(time.Second)
	if _, _, ok := l.gap(later); ok {
		t.Error("a gap without any report")
	}
	l.hear("a", 0, 2, 7)
	if _, _, ok := l.gap(ledgerNow); ok {
		t.Error("a gap before its time")
	}
	first, last, ok := l.gap(later)
	if !ok || first != 4 || last != 6 {
		t.Fatalf("the gap is %d to %d, %v", first, last, ok)
	}
	l.skip(last)
	if _, _, ok := l.gap(later); ok || l.reported != 6 || l.told != 3 {
		t.Errorf("after it: %+v", l)
	}
}

// The steps that wait for reports are bounded, and the nearest ones stay.
func TestLedgerIsBounded(t *testing.T) {
	l := newLedger(0, 0, false)
	for step := uint64(2); step < 2+maxReports; step++ {
		l.hear("a", 0, 2, step)
	}
	if l.hear("a", 0, 2, 1e6) || len(l.steps) != maxReports {
		t.Errorf("a far step is taken in beside %d others", len(l.steps))
	}
	if !l.hear("a", 0, 2, 1) || len(l.steps) != maxReports || l.steps[1+maxReports] != nil {
		t.Errorf("a near step is not taken in for the farthest: %d steps", len(l.steps))
	}
}
