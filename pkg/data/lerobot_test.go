package data

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data/internal/lerobot"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The fixtures are written by tools/lerobot_fixture.py: three episodes of 3, 4
// and 2 frames, whose pixels and numbers say where they are from.
var lerobotLengths = []int{3, 4, 2}

func lerobotJob(dir string, options ...any) job.Data {
	return of(job.Data{Kind: "lerobot", Path: dir}, append([]any{"Camera", "front"}, options...)...)
}

var lerobotNeeds = models.Spec{pictures(3, 8, 8), words(32), acts(3)}

// Every form has the same samples: each number and pixel is where it belongs.
func TestLeRobot(t *testing.T) {
	for _, form := range []string{"v3", "v21"} {
		for camera, name := range []string{"front", "observation.images.wrist"} {
			t.Run(form+" "+name, func(t *testing.T) {
				dir := filepath.Join("testdata", "lerobot", form)
				d, err := Open(lerobotJob(dir, "Camera", name, "Split", "all"), lerobotNeeds, 1, ".", nil)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				m := d.Meta()
				if m.Train != 9 || m.Heldout != 0 {
					t.Fatalf("%d + %d samples", m.Train, m.Heldout)
				}
				if want := []string{"x", "y", "gripper"}; !reflect.DeepEqual(m.Actions.Names, want) {
					t.Errorf("the action's dimensions are %q", m.Actions.Names)
				}
				if want := []string{"<pad>", "<unk>", "button", "door", "open", "push", "the"}; !reflect.DeepEqual(m.Vocab, want) {
					t.Errorf("vocabulary %q", m.Vocab)
				}
				i := 0
				for e, n := range lerobotLengths {
					for f := range n {
						s, err := d.Train().Sample(i)
						if err != nil {
							t.Fatal(err)
						}
						want := []float32{float32(e) + float32(f)/8, -float32(f) / 4, float32(f % 2)}
						if got := actionOf(s); !reflect.DeepEqual(got, want) {
							t.Errorf("episode %d, frame %d: action %v, want %v", e, f, got, want)
						}
						text := []int32{5, 6, 2}
						if e == 1 {
							text = []int32{4, 6, 3}
						}
						if got := tokensOf(s); !reflect.DeepEqual(got, text) {
							t.Errorf("episode %d, frame %d: tokens %v, want %v", e, f, got, text)
						}
						if !strings.HasSuffix(s.Origin, fmt.Sprintf("episode %d frame %d", e, f)) {
							t.Errorf("sample %d is of %s", i, s.Origin)
						}
						p, err := decodeImage(pictureOf(s).Encoded)
						if err != nil {
							t.Fatal(err)
						}
						for y := range 8 {
							for x := range 8 {
								at := 3 * (8*y + x)
								if got, want := [3]byte(p.RGB[at:at+3]), [3]byte{byte(40*e + f), byte(100*camera + y), byte(30 * x)}; got != want {
									t.Fatalf("episode %d, frame %d, pixel %d %d: %v, want %v", e, f, y, x, got, want)
								}
							}
						}
						i++
					}
				}
			})
		}
	}
}

// A split is episodes from:to; data.holdout.split is another one.
func TestLeRobotSplits(t *testing.T) {
	dir := filepath.Join("testdata", "lerobot", "v3")
	cfg := lerobotJob(dir)
	cfg.Holdout = job.Holdout{Split: "test"}
	d, err := Open(cfg, lerobotNeeds, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if m := d.Meta(); m.Train != 7 || m.Heldout != 2 {
		t.Errorf("%d + %d samples, want 7 + 2", m.Train, m.Heldout)
	}
	s, err := d.Heldout().Sample(1)
	if err != nil || !strings.Contains(s.Origin, "file-001.parquet episode 2 frame 1") {
		t.Errorf("%s, %v", s.Origin, err)
	}
	cfg.Holdout.Split = "all"
	if _, err := Open(cfg, lerobotNeeds, 1, ".", nil); err == nil || !strings.Contains(err.Error(), "both have episode 0") {
		t.Errorf("got %v", err)
	}
	numbers := lerobotJob(dir, "Split", "all", "Action", []string{"observation.state", "action"})
	a, err := Open(numbers, models.Spec{pictures(3, 8, 8), words(32), acts(5)}, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if want := []string{"observation.state.a", "observation.state.b", "action.x", "action.y", "action.gripper"}; !reflect.DeepEqual(a.Meta().Actions.Names, want) {
		t.Errorf("names %q", a.Meta().Actions.Names)
	}
	if s, err := a.Train().Sample(4); err != nil || !reflect.DeepEqual(actionOf(s), []float32{0.5, 0.5, 1.125, -0.25, 1}) {
		t.Errorf("%v, %v", actionOf(s), err)
	}
	if a.Meta().Fingerprint == d.Meta().Fingerprint {
		t.Error("what is read does not matter")
	}
}

// copyTree copies a fixture, to be spoilt.
func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestLeRobotBadInput(t *testing.T) {
	edit := func(file string, change func(m map[string]any)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, file)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var m map[string]any
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			change(m)
			if b, err = json.Marshal(m); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	info := func(change func(m map[string]any)) func(*testing.T, string) { return edit("meta/info.json", change) }
	feature := func(name, key string, v any) func(*testing.T, string) {
		return info(func(m map[string]any) { m["features"].(map[string]any)[name].(map[string]any)[key] = v })
	}
	replace := func(file, old, new string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, file)
			b, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(b, []byte(old)) {
				t.Fatal(err, "it has no", old)
			}
			os.WriteFile(path, bytes.ReplaceAll(b, []byte(old), []byte(new)), 0o644)
		}
	}
	cut := func(file string, n int64) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, file), n); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		form  string
		spoil func(t *testing.T, dir string)
		set   []any
		want  string
	}{
		"no version":             {"v3", info(func(m map[string]any) { delete(m, "codebase_version") }), nil, "has no codebase_version"},
		"an old version":         {"v3", info(func(m map[string]any) { m["codebase_version"] = "v1.6" }), nil, `codebase_version is "v1.6"; v2.0, v2.1 and v3.0 are read`},
		"no fps":                 {"v3", info(func(m map[string]any) { m["fps"] = 0 }), nil, "fps is 0"},
		"info that is cut":       {"v3", cut("meta/info.json", 100), nil, "info.json: "},
		"info that is text":      {"v3", replace("meta/info.json", "{", "version https://git-lfs.github.com/spec/v1\n"), nil, "Git LFS"},
		"a template":             {"v3", info(func(m map[string]any) { m["data_path"] = "data/{chunk:03d}.parquet" }), nil, "has {chunk}; it can have chunk_index, file_index"},
		"a path out of it":       {"v3", info(func(m map[string]any) { m["data_path"] = "../{chunk_index}/{file_index}" }), nil, "leads out of the data set"},
		"a split that is not":    {"v3", nil, []any{"Split", "val"}, `split "val" is not in meta/info.json; it has all, test, train`},
		"a split of words":       {"v3", info(func(m map[string]any) { m["splits"] = map[string]string{"train": "most"} }), nil, `split train is "most"; want episodes from:to`},
		"no camera chosen":       {"v3", nil, []any{"Camera", ""}, "data.camera is not set; the cameras of this data are observation.images.front, observation.images.wrist"},
		"another camera":         {"v3", nil, []any{"Camera", "top"}, `data.camera is "top"; the cameras of this data are observation.images.front`},
		"a video":                {"v3", feature("observation.images.front", "dtype", "video"), nil, "has no video_path, and observation.images.front is video"},
		"an action that is not":  {"v3", nil, []any{"Action", []string{"grip"}}, `there is no feature "grip"; the numbers of a frame are action, episode_index`},
		"an action of pictures":  {"v3", nil, []any{"Action", []string{"observation.images.wrist"}}, "which is image; it can be numbers"},
		"an action twice":        {"v3", nil, []any{"Action", []string{"action", "action"}}, "data.action has action twice"},
		"another shape":          {"v3", feature("action", "shape", []int{4}), []any{}, "column action: row 0 has 3 values, the feature has 4"},
		"a table that is cut":    {"v3", cut("data/chunk-000/file-001.parquet", 500), []any{"Split", "all"}, "file-001.parquet: it is no parquet file, or one that is cut off"},
		"a table that is gone":   {"v3", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "data/chunk-000/file-000.parquet")) }, nil, "episode 0: its table is missing: open "},
		"a list that is gone":    {"v3", func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, "meta/episodes")) }, nil, "it has no list of episodes"},
		"more frames than said":  {"v21", replace("meta/episodes.jsonl", `"length": 4`, `"length": 3`), nil, "the episode has more frames than the list of episodes says"},
		"fewer frames than said": {"v21", replace("meta/episodes.jsonl", `"length": 4`, `"length": 9`), nil, "has 4 frames of episode 1, the list of episodes says 9"},
		"an episode twice":       {"v21", replace("meta/episodes.jsonl", `"episode_index": 2`, `"episode_index": 1`), nil, "episode 1 stands twice"},
		"a task that is not":     {"v21", replace("meta/tasks.jsonl", `"task_index": 1`, `"task_index": 7`), nil, "episode 1, frame 0: task_index 1 is not in the list of tasks"},
		"a line that is no JSON": {"v21", replace("meta/episodes.jsonl", `{"episode_index": 1`, `"episode_index": 1`), nil, "episodes.jsonl:2: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, filepath.Join("testdata", "lerobot", c.form))
			if c.spoil != nil {
				c.spoil(t, dir)
			}
			wants := lerobotNeeds
			if name == "another shape" {
				wants = models.Spec{pictures(3, 8, 8), words(32), acts(4)}
			}
			d, err := Open(lerobotJob(dir, c.set...), wants, 1, ".", nil)
			if err == nil {
				d.Close()
				t.Fatal("it opens")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
			ofKey(t, err, c.want)
		})
	}
}

// A folder is recognised by its files, with all cameras, its state and its action,
// also where the action is in several features.
func TestLeRobotIsRecognised(t *testing.T) {
	l, err := Recognise(filepath.Join("testdata", "lerobot", "v21"))
	if err != nil || l.Data.Kind != "lerobot" {
		t.Fatalf("%+v, %v", l, err)
	}
	d, err := Open(l.Data, l.Wants, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if got, want := strings.Join(m.Spec.Names(), " "), "images images_1 state instruction_tokens actions"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, f := range m.Spec.Of(models.Image) {
		if !strings.HasPrefix(f.Called(), "observation.images.") {
			t.Errorf("%s is called %s", f.Name, f.Called())
		}
	}
	dir := copyTree(t, filepath.Join("testdata", "lerobot", "v21"))
	file := filepath.Join(dir, "meta", "info.json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "meta/info.json", bytes.Replace(b, []byte(`"action": {`), []byte(`"action.arm": {`), 1))
	if l, err = Recognise(dir); err != nil || !l.Wants.Has(models.Actions) || !slices.Equal(l.Data.Options.(LeRobot).Action, []string{"action.arm"}) {
		t.Errorf("%+v, %v", l, err)
	}
}

// FuzzLeRobotTable: whatever stands in a table, reading it ends, by values or an error.
func FuzzLeRobotTable(f *testing.F) {
	for _, path := range []string{"v3/data/chunk-000/file-000.parquet", "v3/meta/tasks.parquet", "v21/data/chunk-000/episode_000000.parquet"} {
		b, err := os.ReadFile(filepath.Join("testdata", "lerobot", path))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "t.parquet"), b, 0o644); err != nil {
			t.Fatal(err)
		}
		tab, err := (&lerobot.Set{Dir: dir}).Table("t.parquet")
		if err != nil {
			return
		}
		defer tab.Close()
		if n := tab.Rows(); n < 0 || n > math.MaxInt32 {
			return
		}
		for _, c := range []string{"action", "task_index", "__index_level_0__"} {
			if l, err := tab.Floats(c, 3); err == nil && len(l) != 3*tab.Rows() {
				t.Errorf("%d floats of %d rows", len(l), tab.Rows())
			}
			if l, err := tab.Ints(c); err == nil && len(l) != tab.Rows() {
				t.Errorf("%d numbers of %d rows", len(l), tab.Rows())
			}
			if l, err := tab.Strings(c); err == nil && len(l) != tab.Rows() {
				t.Errorf("%d texts of %d rows", len(l), tab.Rows())
			}
		}
		for r := range min(tab.Rows(), 4) {
			if p, path, err := tab.Picture("observation.images.front", r); err == nil && p == nil && path == "" {
				t.Errorf("row %d has a picture that is nothing", r)
			}
		}
	})
}
