package internal

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fused are the lines of which the compiler may make one operation of a product
// and a sum, and which no weight, loss or measure depends on, or which come out
// the same: by file.
var fused = map[string]string{
	"internal/kernel/fma.go":           "it is what is meant",
	"internal/kernel/gemm_generic.go":  "it is what is meant",
	"internal/kernel/gemm_grid.go":     "an estimate of time",
	"internal/kernel/tiles.go":         "products of two bfloat16 are exact in float64",
	"internal/portable/portable.go":    "products of two float32 are exact in float64",
	"pkg/models/look.go":               "for people to look at",
	"pkg/data/findscale.go":            "a finding, not a value",
	"pkg/allreduce/link.go":            "rates",
	"pkg/allreduce/nettest/nettest.go": "rates of a test's network",
}

// Weights are the same to the last bit on every CPU, so no product may be fused
// with a sum but by name: the compiler does that on arm64 wherever no conversion
// stands between them. No machine with amd64 can see it otherwise.
func TestNothingIsFused(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles everything for arm64")
	}
	what := []string{"../pkg/tensor/...", "../pkg/models/...", "../pkg/allreduce", "../pkg/pretrained", "../pkg/weights", "../pkg/tokenizer"} // what a step computes
	if os.Getenv("VLARING_LONG") != "" {
		what = []string{"../pkg/..."} // data, evaluation and all else: with an empty cache, minutes of a core
	}
	cmd := exec.Command("go", append([]string{"build", "-gcflags=" + module + "...=-S"}, what...)...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("compiling for arm64: %v\n%s", err, out[max(0, len(out)-2000):])
	}
	at := regexp.MustCompile(`/((?:pkg|internal)/[^():]+\.go):(\d+)\)\tFN?M(?:ADD|SUB)[SD]\t`)
	var bad []string
	seen := map[string]bool{}
	for line := range bytes.Lines(out) { // hundreds of megabytes: too much for the expression alone
		if !bytes.Contains(line, []byte("\tFM")) && !bytes.Contains(line, []byte("\tFNM")) {
			continue
		}
		m := at.FindStringSubmatch(string(line))
		if m == nil {
			continue
		}
		seen[m[1]] = true
		if where := m[1] + ":" + m[2]; fused[m[1]] == "" && !slices.Contains(bad, where) {
			bad = append(bad, where)
		}
	}
	if !seen["internal/kernel/fma.go"] {
		t.Fatal("the one that is meant is not found: the listing reads otherwise now")
	}
	if len(bad) > 0 {
		t.Errorf("fused on arm64, convert the product (float64(x*y) + z), or say here why it does not matter:\n%s", strings.Join(bad, "\n"))
	}
}
