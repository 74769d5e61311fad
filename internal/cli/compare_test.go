package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/compare"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "plots")
	code, out, errs := call(t, bin.coordinator, "compare", "rnn", "--quick", "--json", "--out", dir, "--threads", "2")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, errs)
	}
	var r compare.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if !r.Quick || len(r.Claims) != 4 || r.Claims[3].Name != "memory" || len(r.Claims[3].Table.Rows) != 4 {
		t.Errorf("%+v", r)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if b := decodePNG(t, filepath.Join(dir, f.Name())).Bounds(); b.Dx() < 400 {
			t.Errorf("%s is %v", f.Name(), b)
		}
	}
	code, out, _ = call(t, bin.coordinator, "compare", "cnn", "--quick")
	if code != 0 || !strings.Contains(out, "=== receptive field ===") || !strings.Contains(out, "--quick: these sizes decide nothing") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	for _, c := range []struct{ args, want string }{{"compare mlp", `"mlp"`}, {"compare rnn --threads 0", "--threads 0"}, {"compare cnn x", "takes no arguments"}} {
		if code, _, errs := call(t, bin.coordinator, strings.Fields(c.args)...); code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, want %d with %q\n%s", c.args, code, exitUsage, c.want, errs)
		}
	}
}
