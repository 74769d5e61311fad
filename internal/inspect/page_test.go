package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
)

// eyeOf opens what o names and looks at it.
func eyeOf(t *testing.T, o Options) (data.Dataset, *eye) {
	t.Helper()
	o.Threads = 1
	to, err := o.target()
	if err != nil {
		t.Fatal(err)
	}
	d, err := data.OpenContext(t.Context(), to.cfg, to.wants, to.seed, to.base, nil, data.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	e, err := newEye(d.Meta())
	if err != nil {
		t.Fatal(err)
	}
	return d, e
}

func jobFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const rollouts = `
name: page
model: {kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2}
data: {kind: tabletop, scene: simple, episodes: 8, cameras: [front, side], state: [gripper], history: 2, chunk: 4, augment: {crop: 0.5}}
batch: {global: 4, micro: 4}
train: {steps: 1}
loss: l1
`

// A card shows every camera at every time as it is and as training changes it, the
// instruction in words, and a curve for each dimension of state and actions, which ends
// where the episode does.
func TestCard(t *testing.T) {
	d, e := eyeOf(t, Options{Arg: jobFile(t, rollouts)})
	l := d.Glimpses(pageSamples)
	if len(l) < 5 {
		t.Fatalf("%d samples", len(l))
	}
	c := e.card(d.Train(), l[0])
	var photos []string
	for _, p := range c.Photos[0] {
		photos = append(photos, p.Title)
	}
	if got := strings.Join(photos, "; "); got != "front, 1 before; side, 1 before; front; side" || len(c.Photos) != 2 || c.Photos[1][2].Title != "front, in epoch 0" {
		t.Errorf("%d lines, of %s", len(c.Photos), got)
	}
	if c.Title == "" || strings.Contains(c.Title, "<") || c.Text != "episode "+strings.TrimPrefix(c.Text, "episode ") || !strings.Contains(c.Text, "frame 0; sample ") {
		t.Errorf("%q, %q", c.Title, c.Text)
	}
	same := func(a, b int) bool {
		x, y := c.Photos[0][a].Image, c.Photos[b/4][b%4].Image
		for i := range 16 * 16 {
			if x.At(i%16, i/16) != y.At(i%16, i/16) {
				return false
			}
		}
		return true
	}
	if same(2, 3) || same(2, 6) || !same(0, 2) { // before the episode began, its first frame stands
		t.Error("cameras are the same, or training changes nothing, or what was before an episode is something else")
	}
	if len(c.Tables) != 2 || c.Tables[0].Title != "gripper, 2 times" || c.Tables[1].Title != "actions, the next 4" || len(c.Tables[1].Rows) != 7 {
		t.Fatalf("%+v", c.Tables)
	}
	r := c.Tables[1].Rows[0]
	x, _ := d.Train().Sample(l[0].Index)
	k := d.Meta().Spec.Index("actions")
	if r.Name != "x" || len(r.Values) != 4 || r.Values[1] != float64(x.Values[k].Floats[7]) || !strings.HasSuffix(r.Texts[0], " m") || !(r.Lo < r.Hi) {
		t.Errorf("%+v", r)
	}
	past := c.Tables[0].Rows[0].Values
	if len(past) != 2 || past[0] == past[0] || past[1] != past[1] { // NaN before the episode
		t.Errorf("the state of a first frame is %v", past)
	}
	ends := false // a sample near the end of its episode has fewer actions
	for i := range d.Train().Len() {
		v := e.card(d.Train(), data.Glimpse{Index: i}).Tables[1].Rows[0].Values
		ends = ends || v[0] == v[0] && v[3] != v[3]
	}
	if !ends {
		t.Error("no curve ends where its episode does")
	}
}

// The page is drawn by all three, of a job and of a path with all that it has, and says
// so; a sample that cannot be read has a card of its own.
func TestPage(t *testing.T) {
	set := filepath.Join("..", "..", "pkg", "data", "testdata", "lerobot", "v21")
	for name, look := range map[string]func(Options) error{
		"info":  func(o Options) error { return Info(t.Context(), o) },
		"check": func(o Options) error { return Check(t.Context(), o) },
		"stats": func(o Options) error { return Stats(t.Context(), o) },
	} {
		for _, arg := range []string{set, jobFile(t, rollouts)} {
			var out, screen bytes.Buffer
			o := Options{Arg: arg, Threads: 1, Out: &out, Progress: &screen, Page: filepath.Join(t.TempDir(), "page.png")}
			if err := look(o); err != nil || !strings.Contains(out.String(), o.Page+": ") {
				t.Errorf("%s %s: %v\n%s", name, arg, err, out.String())
			}
			f, err := os.Open(o.Page)
			if err != nil {
				t.Fatal(err)
			}
			if c, err := png.DecodeConfig(f); err != nil || c.Width < 800 || c.Height < 300 {
				t.Errorf("%s: %+v %v", name, c, err)
			}
			f.Close()
			if name == "check" {
				continue
			}
			out.Reset()
			if o.JSON = true; look(o) != nil || strings.Contains(out.String(), "drawn") || !json.Valid(bytes.Split(out.Bytes(), []byte("\n"))[0]) || !strings.Contains(screen.String(), "drawn") {
				t.Errorf("%s --json: %s", name, out.String())
			}
		}
	}
	for _, page := range []string{"page", "page.jpg", filepath.Join(t.TempDir(), "none", "page.png")} {
		var wrong usage.Error
		if err := Info(t.Context(), Options{Arg: set, Threads: 1, Out: io.Discard, Progress: io.Discard, Page: page}); !errors.As(err, &wrong) {
			t.Errorf("--out %s: %v", page, err)
		}
	}
}

// broken is a source of which no sample can be had.
type broken struct{ data.Source }

func (broken) Sample(int) (data.Sample, error) {
	return data.Sample{}, errors.New("episode 3, frame 7: a.png is cut off")
}

// A sample that cannot be read has a card that says so, and the page is drawn.
func TestCardOfFaultySample(t *testing.T) {
	d, e := eyeOf(t, Options{Arg: jobFile(t, rollouts)})
	c := e.card(broken{d.Train()}, data.Glimpse{Episode: 3, Frame: 7, ID: 9, Set: "lab"})
	if c.Title != "cannot be used: episode 3, frame 7: a.png is cut off" || c.Text != "set lab, episode 3, frame 7; sample 9" || c.Photos != nil {
		t.Errorf("%+v", c)
	}
	s := picture.Sheet{Title: "page", Cards: []picture.Card{c}}
	if _, err := s.Image(); err != nil {
		t.Error(err)
	}
}
