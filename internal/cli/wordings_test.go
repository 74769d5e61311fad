package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
)

// tableWordings writes wordings of every "pick up the … …" of the tabletop.
func tableWordings(t *testing.T, more ...string) string {
	t.Helper()
	all := map[string][]string{}
	for _, verb := range []string{"pick up", "lift", "grasp"} {
		for _, colour := range []string{"red", "blue", "green", "yellow"} {
			for _, thing := range []string{"cube", "ball", "block", "bowl"} {
				all[fmt.Sprintf("%s the %s %s", verb, colour, thing)] = append([]string{fmt.Sprintf("fetch me a %s %s", colour, thing), "get it"}, more...)
			}
		}
	}
	b, err := json.Marshal(all)
	path := filepath.Join(t.TempDir(), "wordings.json")
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Promise 1 with instructions in several wordings: which one a sample is shown in is the
// job's, for any number of workers and threads, wherever samples come from, and after
// kills and resumes. Another file is other data.
func TestWordingsSameBits(t *testing.T) {
	t.Parallel()
	job, set := "testdata/small.yaml", "data.wordings="+tableWordings(t)
	want := undisturbed(t, set)
	if want == undisturbed(t) {
		t.Fatal("the wordings change nothing")
	}
	for name, args := range map[string][]string{
		"3 workers, 2 threads": {"--workers", "3", "--threads", "2"},
		"samples over the bus": {"--workers", "2", "--set", "data.delivery=bus"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := trainDone(t, job, append(args, "--set", set, "--run-dir", filepath.Join(t.TempDir(), "run"))...); got != want {
				t.Errorf("weights are %s, want %s", got, want)
			}
		})
	}
	t.Run("stopped and resumed", func(t *testing.T) { stopAndResume(t, job, want, set) })
	t.Run("workers killed", func(t *testing.T) { killTwo(t, job, want, set) })
	t.Run("another file", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		trainDone(t, job, "--run-dir", dir, "--set", set, "--set", "train.steps=5")
		args := []string{"train", job, "--run-dir", dir, "--resume", "--set", "train.steps=7", "--set", "data.wordings=" + tableWordings(t, "take that")}
		code, _, stderr := call(t, bin.coordinator, args...)
		says := regexp.MustCompile(`the data is not what the checkpoint was trained on: data\.wordings is wordings\.json \(SHA-256 [0-9a-f]{12}\), it was wordings\.json \(SHA-256 [0-9a-f]{12}\); .*\nbring the data back, or go on with it as it is now: .* --accept-data-change`)
		if code == 0 || !says.MatchString(stderr) {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		if code, _, stderr := call(t, bin.coordinator, append(args, "--accept-data-change")...); code != 0 || !strings.Contains(stderr, "data.wordings is wordings.json") {
			t.Errorf("accepted: exit code %d: %s", code, stderr)
		}
		code, stdout, stderr := call(t, bin.coordinator, "checkpoint", "show", dir)
		if code != 0 || !regexp.MustCompile(`: training shows \d+ instructions in \d+ wordings \(wordings\.json\)`).MatchString(stdout) {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
	})
}

// A frozen encoder of words runs once for each wording, whatever sample has it; the page
// of samples and the summary show them; what is wrong with a file names the key's line.
func TestWordingsOfAFrozenEncoder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var lines []string
	for i := range 8 {
		lines = append(lines, fmt.Sprintf(`"instruction": "%s the box", "action": [%d, %g], "episode": %d`, []string{"open", "push"}[i%2], 1-i%2*2, float64(i/2)/10, i))
	}
	wordFolder(t, filepath.Join(dir, "data"), lines...)
	job := folderJob(t, dir, "wordings: words.json, holdout: {fraction: 0}")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "words.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"open the box": ["lift the lid", "open up the box now"], "push the box": ["shove it"]}`)
	bert, err := filepath.Abs("../../pkg/pretrained/testdata/bert")
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"XDG_CACHE_HOME=" + t.TempDir()}, bin.coordinator, "train", job, "--json", "--verbose", "--run-dir", filepath.Join(dir, "run"), "--workers", "1",
		"--set", "model.language={from: "+bert+"}", "--set", `train.freeze=["language_encoder.*"]`, "--set", "train.steps=60")
	if code, _ := p.wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.errText())
	}
	text := p.errText()
	l, _ := filepath.Glob(filepath.Join(dir, "run", "logs", "*.log"))
	for _, path := range l {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	m := regexp.MustCompile(`what frozen encoders make.*"asked_for": (\d+).*"kept": (\d+)`).FindAllStringSubmatch(text, -1)
	if len(m) == 0 {
		t.Fatalf("nothing is said of what is kept:\n%s", text)
	}
	asked, _ := strconv.Atoi(m[0][1])
	kept, _ := strconv.Atoi(m[0][2])
	if asked < 100 || asked-kept != 5 { // of those that are equal in a micro-batch one is asked for
		t.Errorf("of %d instructions %d were run, want hundreds and 5", asked, asked-kept)
	}
	page := filepath.Join(dir, "page.png")
	code, stdout, stderr := call(t, bin.coordinator, "data", "info", job, "--json", "--out", page)
	var sum data.Summary
	if err := json.Unmarshal([]byte(stdout), &sum); code != 0 || err != nil || sum.Instructions.Different != 2 || sum.Instructions.Wordings != 5 || len(sum.Findings) > 0 && slices.ContainsFunc(sum.Findings, func(f data.Finding) bool { return f.Kind == "unused_wordings" }) {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	write("{\"open the box\": [\"lift the lid\"],\n \"push the box\": [\"shove it\", \"shove it\"]}")
	for _, args := range [][]string{{"data", "info", job}, {"train", job, "--run-dir", filepath.Join(dir, "other")}} {
		code, _, stderr := call(t, bin.coordinator, args...)
		if want := `words.json:2:31: "shove it" stands twice among the wordings of "push the box": each is as likely as the others, so give it once`; code == 0 || !strings.Contains(stderr, "data.wordings: ") || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	code, _, stderr = call(t, bin.coordinator, "data", "info", job, "--set", "data.kind=tensors")
	if code != 2 || !strings.Contains(stderr, "data.wordings") {
		t.Errorf("of tensors: exit code %d: %s", code, stderr)
	}
}
