package cli

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/vlaring/vlaring/pkg/run"
)

// What signals do to a coordinator, one after another: with --handover the second one ends
// it at once, whichever it is, for a stop would be broken off by the handover that has begun.
func TestSignals(t *testing.T) {
	const interrupt, term, hup = syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP
	for _, c := range []struct {
		name     string
		handover bool
		waits    bool
		signals  []os.Signal
		want     []string
	}{
		{"Ctrl-C", false, false, []os.Signal{interrupt}, []string{"stop"}},
		{"twice", false, false, []os.Signal{interrupt, term}, []string{"stop", "end"}},
		{"a closed terminal", false, false, []os.Signal{hup, hup, hup}, []string{"stop"}},
		{"while the disk is waited for", false, true, []os.Signal{term, term}, []string{"stop", "stop"}},
		{"handover", true, false, []os.Signal{term}, []string{"hand over"}},
		{"handover, twice", true, false, []os.Signal{term, term}, []string{"hand over", "end to hand over"}},
		{"handover, Ctrl-C", true, false, []os.Signal{term, interrupt}, []string{"hand over", "end to hand over"}},
		{"handover, closed terminal", true, false, []os.Signal{hup, hup, hup}, []string{"hand over"}},
		{"Ctrl-C with --handover", true, false, []os.Signal{interrupt, interrupt}, []string{"stop", "end"}},
		{"Ctrl-C, then handover", true, false, []os.Signal{interrupt, term}, []string{"stop", "hand over"}},
	} {
		var did []string
		does := func(what string) { did = append(did, what) }
		h := heed{stop: func(string) { does("stop") }, newest: func() string { return "" }, waits: func() bool { return c.waits }}
		h.end = func(cause error) {
			if errors.Is(cause, run.ErrHandover) {
				does("end to hand over")
			} else {
				does("end")
			}
		}
		if c.handover {
			h.handover = func() { does("hand over") }
		}
		for _, s := range c.signals {
			h.signal(s)
		}
		if !slices.Equal(did, c.want) {
			t.Errorf("%s: %q, want %q", c.name, did, c.want)
		}
	}
}
