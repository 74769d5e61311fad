package data

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/vlaring/vlaring/pkg/models"
)

// lerobotRow is a row of a table that a test writes by itself.
type lerobotRow struct {
	Front   lerobotPicture `parquet:"observation.images.front"`
	Action  []float32      `parquet:"action,list"`
	State   []float32      `parquet:"observation.state,list"`
	Time    float32        `parquet:"timestamp"`
	Frame   int64          `parquet:"frame_index"`
	Episode int64          `parquet:"episode_index"`
	Task    int64          `parquet:"task_index"`
}

type lerobotPicture struct {
	Bytes []byte `parquet:"bytes"`
}

// writeLeRobot makes a data set of one table, with episodes.jsonl as given.
func writeLeRobot(t *testing.T, dir, episodes string, rows []lerobotRow) {
	t.Helper()
	for name, text := range map[string]string{
		"meta/episodes.jsonl": episodes,
		"meta/tasks.jsonl":    `{"task_index": 0, "task": "push"}`,
		"meta/info.json": `{"codebase_version": "v2.1", "fps": 10, "chunks_size": 2000, "data_path": "data/all.parquet", "features": {
			"observation.images.front": {"dtype": "image", "shape": [8, 8, 3]}, "action": {"dtype": "float32", "shape": [3], "names": null},
			"observation.state": {"dtype": "float32", "shape": [2], "names": null}}}`,
		"data/all.parquet": "",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := parquet.WriteFile(filepath.Join(dir, "data/all.parquet"), rows, parquet.MaxRowsPerRowGroup(100)); err != nil {
		t.Fatal(err)
	}
}

// A check names episode and frame of what is wrong, goes on behind it and numbers
// samples as data.skip takes them; training is refused with the same words.
func TestLeRobotCheck(t *testing.T) {
	nan := float32(math.NaN())
	picture := func(side int) lerobotPicture {
		return lerobotPicture{encodePNG(t, image.NewRGBA(image.Rect(0, 0, side, side)))}
	}
	needs := append(slices.Clone(lerobotNeeds), models.Known(models.State, 0))
	for name, c := range map[string]struct {
		spoil  func(r *lerobotRow) // episode 1, frame 1
		want   string              // of training; empty: it opens
		faults string              // kind, sample, episode and frame of each
	}{
		"nothing":              {func(r *lerobotRow) {}, "", ""},
		"NaN in a state":       {func(r *lerobotRow) { r.State[1] = nan }, "all.parquet: episode 1, frame 1: observation.state has NaN in dimension 1; write a finite number, or leave the frame out (data.skip: [3])", "value 3 1 1"},
		"an infinite action":   {func(r *lerobotRow) { r.Action[2] = float32(math.Inf(-1)) }, "episode 1, frame 1: action has -Inf in dimension 2", "value 3 1 1"},
		"another length":       {func(r *lerobotRow) { r.State = r.State[:1] }, "episode 1, frame 1: ", "file - - -"},
		"how long":             {func(r *lerobotRow) { r.State = append(r.State, 1) }, "column observation.state: row 3 has 3 values, the feature has 2", "file - - -"},
		"a task that is not":   {func(r *lerobotRow) { r.Task = 5 }, "episode 1, frame 1: task_index 5 is not in the list of tasks", "record - 1 1"},
		"a frame that is not":  {func(r *lerobotRow) { r.Frame = 7 }, "episode 1, frame 7: it follows frame 0; want ascending frame_index without gaps", "record - 1 7"},
		"a larger picture":     {func(r *lerobotRow) { r.Front = picture(9) }, "", "picture 3 1 1"},
		"no picture":           {func(r *lerobotRow) { r.Front.Bytes = []byte("none") }, "", "picture 3 1 1"},
		"an episode that ends": {func(r *lerobotRow) { r.Episode = 0 }, "episode 0, frame 1: the episode has more frames than the list of episodes says", "record - 0 1, record - 1 -"},
		"a frame too few":      {func(r *lerobotRow) { r.Episode = 9 }, "all.parquet has 1 frames of episode 1, the list of episodes says 2; get both from one place", "record - 1 -"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var rows []lerobotRow
			var list strings.Builder
			for e := range 3 {
				fmt.Fprintf(&list, `{"episode_index": %d, "length": 2}`+"\n", e)
				for f := range 2 {
					rows = append(rows, lerobotRow{picture(8), []float32{float32(e), float32(f), 1}, []float32{1, float32(e)}, float32(f) / 10, int64(f), int64(e), 0})
				}
			}
			c.spoil(&rows[3])
			writeLeRobot(t, dir, list.String(), rows)
			cfg := lerobotJob(dir, "FrameKeys", FrameKeys{State: []string{"observation.state"}})
			d, err := Open(cfg, needs, 1, ".", nil)
			if err == nil {
				d.Close()
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %s", err, c.want)
			}
			var got []string
			say := func(f Fault) {
				text := f.Kind
				for _, p := range []any{f.Sample, f.Episode, f.Frame} {
					switch p := p.(type) {
					case *int:
						if p != nil {
							text += fmt.Sprint(" ", *p)
							continue
						}
					case *int64:
						if p != nil {
							text += fmt.Sprint(" ", *p)
							continue
						}
					}
					text += " -"
				}
				got = append(got, text)
			}
			d, err = OpenContext(context.Background(), cfg, needs, 1, ".", nil, Watch{Fault: say})
			if err == nil {
				_, err = d.Survey(context.Background(), Survey{Threads: 1, Fault: say})
				d.Close()
			}
			if err != nil && !strings.HasPrefix(c.faults, "file") { // of which nothing is left
				t.Error(err)
			}
			if got := strings.Join(got, ", "); got != c.faults {
				t.Errorf("faults %q, want %q", got, c.faults)
			}
		})
	}
}

// The list of tasks has its texts in a column of any name, as long as it is the only
// one of texts.
func TestLeRobotTasks(t *testing.T) {
	type task struct {
		Text  string `parquet:"instruction"`
		Index int64  `parquet:"task_index"`
	}
	dir := copyTree(t, filepath.Join("testdata", "lerobot", "v3"))
	if err := parquet.WriteFile(filepath.Join(dir, "meta/tasks.parquet"), []task{{"open the door", 1}, {"push the button", 0}}); err != nil {
		t.Fatal(err)
	}
	of := func(dir string) string {
		d, err := Open(lerobotJob(dir, "Split", "all"), lerobotNeeds, 1, ".", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		var all []string
		for i := range d.Train().Len() {
			s, err := d.Train().Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(tokensOf(s)))
		}
		return strings.Join(all, " ")
	}
	if got, want := of(dir), of(filepath.Join("testdata", "lerobot", "v3")); got != want {
		t.Errorf("tokens %s, want %s", got, want)
	}
}
