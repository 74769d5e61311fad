package cli

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/attention"
	"github.com/vlaring/vlaring/internal/audit"
	"github.com/vlaring/vlaring/internal/bench"
	"github.com/vlaring/vlaring/internal/convert"
	"github.com/vlaring/vlaring/internal/rollout"
	"github.com/vlaring/vlaring/internal/runlist"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/trained"
)

// docs/formats.md names every key that a command prints with --json, and no other.
func TestJSONKeys(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "## What --json prints\n")
	text, _, _ = strings.Cut(text, "\n## ")
	presets, err := bench.Presets()
	if err != nil {
		t.Fatal(err)
	}
	prints := map[string]reflect.Type{
		"`status`, `scale`, `stop`": reflect.TypeFor[run.Status](), "their `workers`": reflect.TypeFor[run.WorkerStatus](),
		"`eval`": reflect.TypeFor[eval.Report](), "its `actions`": reflect.TypeFor[eval.ActionReport](), "its `tokens`": reflect.TypeFor[eval.TokenReport](),
		"`eval --exits`": reflect.TypeFor[eval.ExitReport](), "`predict`": reflect.TypeFor[trained.Answer](), "`rollout`": reflect.TypeFor[rollout.Report](),
		"`attention`": reflect.TypeFor[attention.Report](), "`audit`": reflect.TypeFor[audit.Report](), "`checkpoint ls`": reflect.TypeFor[checkpoint.Entry](),
		"`checkpoint verify`": reflect.TypeFor[checkpoint.Report](), "`checkpoint prune`": reflect.TypeFor[run.Pruning](), "`checkpoint upload`": reflect.TypeFor[run.Uploaded](),
		"`checkpoint export`": reflect.TypeFor[trained.Exported](), "`runs ls`": reflect.TypeFor[runlist.Summary](), "`runs diff`": reflect.TypeFor[runlist.Diff](),
		"`runs send`": reflect.TypeFor[run.Sent](), "`presets`": reflect.TypeOf(presets).Elem(), "`show masks`": reflect.TypeFor[view.Masks](), "`data convert`": reflect.TypeFor[convert.Report](),
	}
	aside := regexp.MustCompile(`\([^)]*\)`) // keys of what is within, and words
	for _, row := range strings.Split(text, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) < 5 {
			continue
		}
		what := strings.TrimSpace(cells[1])
		of, ok := prints[what]
		if !ok {
			continue
		}
		delete(prints, what)
		var says []string
		for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(aside.ReplaceAllString(cells[3], ""), -1) {
			says = append(says, m[1])
		}
		want := jsonKeys(of)
		slices.Sort(says)
		slices.Sort(want)
		if !slices.Equal(says, want) {
			t.Errorf("%s: docs/formats.md has %v\nit prints %v", what, says, want)
		}
	}
	for what := range prints {
		t.Errorf("docs/formats.md has no line of %s", what)
	}
}

// jsonKeys are the keys of a struct in JSON, those of what it embeds among them.
func jsonKeys(of reflect.Type) (keys []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			keys = append(keys, jsonKeys(f.Type)...)
		case f.IsExported() && name != "-":
			keys = append(keys, name)
		}
	}
	return keys
}
