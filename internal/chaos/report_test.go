package chaos

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/usage"
)

// Faults are summed up by kind; those that hit the only worker, or one that no
// coordinator had started, apart.
func TestSum(t *testing.T) {
	r := Report{all: []Fault{
		{Kind: killWorker, Worker: "w1", Workers: 3, Seconds: 3}, {Kind: killWorker, Worker: "w0", Workers: 2, Seconds: 1}, {Kind: killWorker, Worker: "w2", Workers: 3, Seconds: 2},
		{Kind: killWorker, Worker: "w0", Workers: 1, Seconds: 9}, {Kind: freezeWorker, Worker: "x4", Workers: 3, Seconds: 5}, {Kind: restartBroker, Workers: 1, Seconds: 0.5},
		{Kind: killWorker, Worker: "x1", Workers: 1, Seconds: 8}, // which is worse than to be from elsewhere
	}}
	r.sum()
	want := []Kind{{"broker restarted", 1, 0.5, 0.5}, {"worker frozen, from elsewhere", 1, 5, 5}, {"worker killed", 3, 2, 3}, {"worker killed, the only one", 2, 9, 9}}
	if !reflect.DeepEqual(r.Kinds, want) {
		t.Errorf("got %v, want %v", r.Kinds, want)
	}
}

func TestLots(t *testing.T) {
	all, err := lots(nil)
	if err != nil || len(all) != 21 {
		t.Fatalf("%d lots of all kinds, %v", len(all), err)
	}
	for _, s := range shares() {
		n := 0
		for _, k := range all {
			if k == s.kind {
				n++
			}
		}
		if n != s.times || n == 0 {
			t.Errorf("%s has %d lots, want %d", s.kind, n, s.times)
		}
	}
	if some, err := lots([]string{killBoth, joinWorker}); err != nil || !slices.Equal(some, []string{joinWorker, joinWorker, killBoth}) {
		t.Errorf("got %v, %v", some, err)
	}
	var misuse usage.Error
	if _, err := lots([]string{killBoth, "earthquake"}); !errors.As(err, &misuse) || !strings.Contains(err.Error(), `"earthquake": want some of worker killed, `) {
		t.Errorf("got %v", err)
	}
}

// What cannot be is refused before anything is started or made.
func TestRunRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"no workers": {Faults: 1, Pace: 1}, "no faults": {Workers: 1, Pace: 1}, "no pace": {Workers: 1, Faults: 1},
		"no such kind": {Workers: 1, Faults: 1, Pace: 1, Kinds: []string{"flood"}},
	} {
		var misuse usage.Error
		if r, err := Run(t.Context(), o); r != nil || !errors.As(err, &misuse) {
			t.Errorf("%s: got %v, %v", name, r, err)
		}
	}
}
