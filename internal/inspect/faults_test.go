package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
)

func sample(n int) *int { return &n }

func list(out *bytes.Buffer) *faultList {
	return &faultList{out: out, kinds: map[string]int{}, seen: map[string]bool{}}
}

// Faults are counted by kind, those of records and files once, however many
// cameras see them, and the first are shown.
func TestFaultsAreCounted(t *testing.T) {
	var out, all bytes.Buffer
	l := list(&out)
	l.all = json.NewEncoder(&all)
	for range 2 { // two cameras
		l.add(data.Fault{Kind: "record", Sample: sample(3), What: "record 3 is torn"})
		l.add(data.Fault{Kind: "line", What: "line 9 is no JSON"})
	}
	for n := range FaultsShown + 5 {
		l.add(data.Fault{Kind: "picture", Sample: sample(n), What: fmt.Sprintf("sample %d: no PNG", n)})
	}
	if got := l.counts(); got != "1 of kind line, 1 of kind record, 25 of kind picture" || l.n != FaultsShown+7 {
		t.Errorf("%d: %s", l.n, got)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != FaultsShown+1 || lines[0] != "record: sample 3: record 3 is torn" || lines[2] != "picture: sample 0: no PNG" || !strings.HasPrefix(lines[FaultsShown], "… more are counted") {
		t.Errorf("shown:\n%s", out.String())
	}
	if n := strings.Count(all.String(), `{"event":"fault","kind":`); n != l.n {
		t.Errorf("%d of %d are told to scripts", n, l.n)
	}
}

// How to go on depends on whether the samples can be left out, and on how many
// they are.
func TestWayOn(t *testing.T) {
	l := list(nil)
	l.out = nil
	for _, n := range []int{7, 2, 7} {
		l.add(data.Fault{Kind: "picture", Sample: sample(n), What: "broken"})
	}
	if got := l.wayOn(); !strings.Contains(got, "--set data.skip='[2,7]'") {
		t.Error(got)
	}
	for n := range FaultsShown + 1 {
		l.add(data.Fault{Kind: "picture", Sample: sample(n), What: "broken"})
	}
	if got := l.wayOn(); strings.Contains(got, "'") || !strings.Contains(got, "which --out FILE has") {
		t.Error(got)
	}
	l.add(data.Fault{Kind: "line", What: "line 9 is no JSON"})
	if got := l.wayOn(); strings.Contains(got, "data.skip") || !strings.Contains(got, "--accept-data-change") {
		t.Error(got)
	}
}

func TestCounted(t *testing.T) {
	for n, want := range map[int]string{0: "0 faults", 1: "1 fault", 12345: "12,345 faults"} {
		if got := counted(n, "fault"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
