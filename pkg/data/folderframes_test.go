package data

import (
	"errors"
	"fmt"
	"image/color"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// cameraFolder writes three episodes of two frames, of two cameras, a state of two
// keys and actions [episode, frame].
func cameraFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var manifest strings.Builder
	for e := range 3 {
		for f := range 2 {
			for c, camera := range []string{"front", "wrist"} {
				m := testPicture(8, 8, color.RGBA{})
				for p := range m.Pix {
					m.Pix[p] = []byte{byte(10 * e), byte(f), byte(c), 255}[p%4]
				}
				write(t, dir, fmt.Sprintf("%s/%d-%d.png", camera, e, f), encodePNG(t, m))
			}
			names := ""
			if e+f == 0 {
				names = `, "state_names": ["x", "y", "grip"], "action_names": ["dx", "dy"]`
			}
			fmt.Fprintf(&manifest, `{"images": {"wrist": "wrist/%d-%d.png", "front": "front/%d-%d.png", "top": "none"}, "joints": [%d, %d], "grip": [%d], "action": [%d, %d], "instruction": "go", "episode": %d%s}`+"\n",
				e, f, e, f, e, f, e*f, e, f, e+5, names)
		}
	}
	write(t, dir, ManifestName, []byte(manifest.String()))
	return aged(t, dir)
}

// aged makes the files of a folder old: those of just now are read again, whatever
// a Scan knows of them.
func aged(t *testing.T, dir string) string {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(p, time.Time{}, time.Now().Add(-time.Hour)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFolderFrames(t *testing.T) {
	dir := cameraFolder(t)
	cfg := of(job.Data{Kind: "folder", Path: dir}, "Cameras", []string{"front", "wrist"}, "State", []string{"joints", "grip"}, "History", 2, "Chunk", 4)
	scans := &ScanDir{Dir: t.TempDir(), Least: 1}
	for pass := range 2 { // the second one does not read the pictures
		d, err := OpenContext(t.Context(), cfg, frameNeeds(8), 1, ".", nil, Watch{Scans: scans})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		m := d.Meta()
		if got, want := m.StatsOf(models.State).Names, []string{"x", "y", "grip"}; !reflect.DeepEqual(got, want) {
			t.Errorf("the state's names are %q", got)
		}
		if !reflect.DeepEqual(m.Actions.Names, []string{"dx", "dy"}) || m.Spec.Find(models.View(1, 0)).Called() != "wrist" || m.Spec.Find(models.State).Called() != "joints+grip" {
			t.Errorf("%q, %s", m.Actions.Names, m.Spec)
		}
		for i := range 6 {
			e, f := i/2, i%2
			s, err := d.Train().Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			for camera := range 2 {
				for past := range 2 {
					if got, want := shade(t, d, s, models.View(camera, past)), [3]byte{byte(10 * e), byte(max(f-past, 0)), byte(camera)}; got != want {
						t.Errorf("pass %d, sample %d: camera %d, %d before, is %v, want %v", pass, i, camera, past, got, want)
					}
				}
			}
			p := max(f-1, 0)
			if got, want := valueOf(t, d, s, models.State).Floats, []float32{float32(e), float32(p), float32(e * p), float32(e), float32(f), float32(e * f)}; !reflect.DeepEqual(got, want) {
				t.Errorf("sample %d: state %v, want %v", i, got, want)
			}
			if got, want := valueOf(t, d, s, models.Actions).Floats, []float32{float32(e), float32(f), float32(e), 1, float32(e), 1, float32(e), 1}; !reflect.DeepEqual(got, want) {
				t.Errorf("sample %d: actions %v, want %v", i, got, want)
			}
			if got, want := valueOf(t, d, s, models.Valid).Floats, marks(4, 2-f); !reflect.DeepEqual(got, want) {
				t.Errorf("sample %d: valid %v, want %v", i, got, want)
			}
		}
		if l, _ := os.ReadDir(scans.Dir); len(l) != 1 {
			t.Errorf("%d scans are kept", len(l))
		}
	}
	// A picture of the second camera that changes is another data set's.
	before, err := Open(cfg, frameNeeds(8), 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	write(t, dir, "wrist/1-1.png", encodePNG(t, testPicture(8, 8, color.RGBA{9, 9, 9, 255})))
	after, err := OpenContext(t.Context(), cfg, frameNeeds(8), 1, ".", nil, Watch{Scans: scans})
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if before.Meta().Fingerprint == after.Meta().Fingerprint {
		t.Error("another picture of the second camera does not matter")
	}
}

func TestFolderFramesRefused(t *testing.T) {
	const line = `{"images": {"front": "front/0-0.png", "wrist": "wrist/0-0.png"}, "state": [1, 2], "action": [1, 2], "instruction": "go"}`
	for _, c := range []struct{ old, new, want string }{
		{`"wrist": "wrist`, `"arm": "wrist`, "manifest.jsonl:2: images: there is no camera wrist (data.cameras); the line has front, arm"},
		{`"images": {"front": "front/0-0.png", "wrist": "wrist/0-0.png"}`, `"image": "front/0-0.png"`, "manifest.jsonl:2: the key images is missing; the line has one image: leave data.cameras out"},
		{`{"front": "front/0-0.png", "wrist": "wrist/0-0.png"}`, `["front/0-0.png"]`, "images: it is a list, expected an object"},
		{`wrist/0-0.png`, `wrist/9-9.png`, `image "wrist/9-9.png": there is no such file`},
		{`[1, 2], "action"`, `[1, NaN], "action"`, "manifest.jsonl:2: state value 1 is NaN"},
		{`[1, 2], "action"`, `[1, null], "action"`, "state value 1 is null"},
		{`[1, 2], "action"`, `null, "action"`, "state is null; give its numbers"},
		{`[1, 2], "action"`, `[1], "action"`, "manifest.jsonl:2: state has 1 values, the first line's has 2"},
		{`"state": [1, 2], `, ``, "manifest.jsonl:2: the key state is missing"},
		{`"action"`, `"state_names": ["x"], "action"`, "state_names has 1 names, and state 2 values"},
		{`"action"`, `"state_names": ["x", "x"], "action"`, "state_names: each name stands once"},
		{`"action"`, `"state_names": ["y", "x"], "action"`, "state_names differ from those of a line before it"},
	} {
		dir := cameraFolder(t)
		first := strings.Replace(line, `"action"`, `"state_names": ["x", "y"], "action"`, 1)
		write(t, dir, ManifestName, []byte(first+"\n"+strings.Replace(line, c.old, c.new, 1)+"\n"))
		_, err := Open(of(job.Data{Kind: "folder", Path: dir}, frameKeys("state", "front", "wrist")...), frameNeeds(8), 1, ".", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.new, err, c.want)
		}
	}
	dir := cameraFolder(t)
	_, err := Open(of(job.Data{Kind: "folder", Path: dir}), models.Spec{pictures(3, 8, 8), words(8), acts(0)}, 1, ".", nil)
	if want := "the key image is missing; the line has images: name its cameras by data.cameras"; err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
	_, err = Open(of(job.Data{Kind: "folder", Path: dir}, "State", []string{"episode"}), models.Spec{models.Known(models.State, 0), acts(0)}, 1, ".", nil)
	if want := "data.state[0]: episode is no key of numbers"; err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
}

// A folder is recognised with its cameras and its state.
func TestFolderFramesAreRecognised(t *testing.T) {
	dir := cameraFolder(t)
	b, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, ManifestName, []byte(strings.ReplaceAll(strings.ReplaceAll(string(b), `, "top": "none"`, ""), `"grip": [`, `"state": [0, 0, `)))
	l, err := Recognise(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(l.Data, l.Wants, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got, want := strings.Join(d.Meta().Spec.Names(), " "), "images images_1 state instruction_tokens actions"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
