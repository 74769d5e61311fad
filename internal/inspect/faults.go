package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/data"
)

// FaultsShown is how many faults are printed in full.
const FaultsShown = 20

// faultList prints the first faults and counts all.
type faultList struct {
	out    io.Writer // for people; nil with --json
	all    *json.Encoder
	kinds  map[string]int
	seen   map[string]bool // of faults of records and files, which may be met again
	n      int
	skip   []int // samples that data.skip could leave out
	others bool  // there are faults that it cannot
	err    error // of writing
}

func (l *faultList) add(f data.Fault) {
	if f.Sample == nil || f.Kind == "record" {
		if l.seen[f.What] {
			return
		}
		l.seen[f.What] = true
	}
	l.n++
	l.kinds[f.Kind]++
	if f.Sample != nil && len(l.skip) <= FaultsShown && !slices.Contains(l.skip, *f.Sample) { // a sample may have several faults
		l.skip = append(l.skip, *f.Sample)
	}
	l.others = l.others || f.Sample == nil
	if l.all != nil {
		l.err = errors.Join(l.err, l.all.Encode(struct {
			Event string `json:"event"`
			data.Fault
		}{"fault", f}))
	}
	if l.out != nil && l.n <= FaultsShown {
		text := f.String()
		if name := fmt.Sprintf("sample %d", ptrOr(f.Sample, -1)); f.Sample != nil && !strings.HasPrefix(text, name) {
			text = name + ": " + text // as data.skip takes it
		}
		fmt.Fprintf(l.out, "%s: %.400s\n", f.Kind, text)
	}
	if l.out != nil && l.n == FaultsShown+1 {
		fmt.Fprintf(l.out, "… more are counted; --out FILE has them all\n")
	}
}

// counts are the kinds by name.
func (l *faultList) counts() string {
	var s []string
	for _, k := range []string{"line", "record", "file", "picture", "value", "data"} {
		if n := l.kinds[k]; n > 0 {
			s = append(s, fmt.Sprintf("%d of kind %s", n, k))
		}
	}
	return strings.Join(s, ", ")
}

// wayOn says how to go on.
func (l *faultList) wayOn() string {
	ids := slices.Sorted(slices.Values(l.skip))
	s := "repair or replace what is named"
	if !l.others && len(ids) <= FaultsShown {
		s += fmt.Sprintf(", or leave the samples out: --set data.skip='%s'", strings.ReplaceAll(fmt.Sprint(ids), " ", ","))
	} else if !l.others {
		s += ", or leave the samples out: data.skip lists them by their numbers, which --out FILE has"
	}
	return s + "; a run that stands is resumed with --resume --accept-data-change"
}

// counted is a number with its word in the right form.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%s %ss", view.Grouped(int64(n)), what)
}

func ptrOr(p *int, or int) int {
	if p == nil {
		return or
	}
	return *p
}
