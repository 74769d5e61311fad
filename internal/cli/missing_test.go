package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

// What is not there is named, with what was expected in its place, once and before
// anything else is said; it is wrong usage.
func TestMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	no, out := filepath.Join(dir, "nowhere"), filepath.Join(dir, "out")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"data", "convert", no, out}, "there is no " + no + ": give tar archives"},
		{[]string{"data", "convert", dir, out}, dir + " is a folder: give the tar archives in it"},
		{[]string{"data", "convert", no}, "wants shards and a folder to make"},
		{[]string{"data", "sort"}, `unknown command "sort": want check, info, stats, import, convert`},
		{[]string{"checkpoint", "eat"}, `unknown command "eat": want ls, show, verify, prune, upload, export`},
		{[]string{"runs", "send", no, "--track", "trackio:http://127.0.0.1:1"}, no + " is no run directory"},
		{[]string{"runs", "send", no}, "give --track trackio:URL"},
		{[]string{"runs", "away"}, `unknown command "away": want ls, diff, send`},
	} {
		p := start(t, nil, bin.coordinator, c.args...)
		if code, _ := p.wait(); code != exitUsage || !strings.HasPrefix(p.errText(), "coordinator: ") || !strings.Contains(p.errText(), c.want) {
			t.Errorf("%v: %d, %q; want %q", c.args, code, p.errText(), c.want)
		}
	}
}
