package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data/internal/frames"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The sets with videos are written by tools/lerobot_fixture.py: the pictures of one
// camera are frames of 24×16 of one colour each, which says where they are from.
func videoColour(episode, frame int) [3]byte {
	return [3]byte{byte(40 + 80*episode), byte(30 + 50*frame), 120}
}

// videoFiles are the videos of each form and the episodes in them. In v3 they are
// cut elsewhere than the tables.
var videoFiles = map[string]map[string][]int{
	"v3-video":  {"videos/observation.images.front/chunk-000/file-000.mp4": {0}, "videos/observation.images.front/chunk-000/file-001.mp4": {1, 2}},
	"v21-video": {"videos/chunk-000/observation.images.front/episode_000000.mp4": {0}, "videos/chunk-000/observation.images.front/episode_000001.mp4": {1}, "videos/chunk-001/observation.images.front/episode_000002.mp4": {2}},
}

// storeOf writes what an import would have written, without ffmpeg: frames of h×w,
// fps a second. cut leaves so many out at each file's end.
func storeOf(t *testing.T, dir, form string, size, h, w int, fps float64, cut int) {
	t.Helper()
	for video, episodes := range videoFiles[form] {
		var b bytes.Buffer
		out := frames.NewWriter(&b, h, w)
		n, total := 0, 0
		for _, e := range episodes {
			total += lerobotLengths[e]
		}
		for _, e := range episodes {
			for f := range lerobotLengths[e] {
				if n++; n > total-cut {
					continue
				}
				c := videoColour(e, f)
				if err := out.Add(float64(n-1)/fps, bytes.Repeat(c[:], h*w)); err != nil {
					t.Fatal(err)
				}
			}
		}
		src, err := sourceOf(filepath.Join(dir, video))
		if err != nil {
			t.Fatal(err)
		}
		src.H, src.W = 16, 24
		if err := out.Close(src); err != nil {
			t.Fatal(err)
		}
		path := storeFile(filepath.Join(dir, framesFolder), size, video)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// pictured opens a set with videos and compares each sample's picture with where it
// is from, to within so much.
func pictured(t *testing.T, d job.Data, within int) string {
	t.Helper()
	set, err := Open(d, lerobotNeeds, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	i := 0
	for e, n := range lerobotLengths {
		for f := range n {
			s, err := set.Train().Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			want := videoColour(e, f)
			for p, v := range pictureOf(s).RGB {
				if d := int(v) - int(want[p%3]); d > within || d < -within {
					t.Fatalf("episode %d, frame %d, byte %d: %d, want %d", e, f, p, v, want[p%3])
				}
			}
			if got := actionOf(s); got[0] != float32(e)+float32(f)/8 {
				t.Errorf("episode %d, frame %d: action %v", e, f, got)
			}
			i++
		}
	}
	if i != set.Train().Len() {
		t.Errorf("%d samples, want %d", set.Train().Len(), i)
	}
	return set.Meta().Fingerprint
}

// Each frame is found, in either form, beside depth pictures, language and columns of
// types that nobody knows. Its pixels are in the fingerprint.
func TestFramesOfVideos(t *testing.T) {
	for form := range videoFiles {
		t.Run(form, func(t *testing.T) {
			dir := copyTree(t, filepath.Join("testdata", "lerobot", form))
			storeOf(t, dir, form, 8, 8, 8, 10, 0)
			d := lerobotJob(dir, "Split", "all")
			one := pictured(t, d, 0)
			storeOf(t, dir, form, 5, 5, 8, 10, 0)
			other := pictured(t, lerobotJob(dir, "Split", "all", "VideoKeys", VideoKeys{FrameSize: 5}), 0)
			if one == other {
				t.Error("the pixels do not matter")
			}
			// The store may be elsewhere, and the videos gone.
			away := t.TempDir()
			if err := os.Rename(filepath.Join(dir, framesFolder), filepath.Join(away, "f")); err != nil {
				t.Fatal(err)
			}
			os.RemoveAll(filepath.Join(dir, "videos"))
			if again := pictured(t, lerobotJob(dir, "Split", "all", "VideoKeys", VideoKeys{Frames: filepath.Join(away, "f")}), 0); again != one {
				t.Error("where the store is matters")
			}
			// Names of any form, in lists of lists and by number; the tables have them.
			of, err := Open(lerobotJob(dir, "Split", "all", "Camera", "wrist", "Action", []string{"action", "observation.state"}), models.Spec{pictures(3, 8, 8), words(32), acts(5)}, 1, ".", nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(of.Meta().Actions.Names, " "); got != "action.x action.y action.gripper observation.state.a observation.state.b" {
				t.Errorf("the numbers are called %s", got)
			}
			of.Close()
			// By itself the camera is looked at in the largest size there is.
			found, err := Recognise(dir)
			if err != nil || len(found.Wants.Of(models.Image)) != 2 {
				t.Fatalf("%v, %v", found, err)
			}
		})
	}
}

func TestFramesOfVideosBadInput(t *testing.T) {
	first := "videos/observation.images.front/chunk-000/file-001.mp4"
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"not imported":     {nil, "camera observation.images.front is video, and the frames of its videos are not (all) in "},
		"what to type":     {nil, " --size 8"},
		"another size":     {func(t *testing.T, dir string) { storeOf(t, dir, "v3-video", 64, 8, 8, 10, 0) }, "there are frames of 64 there, which data.frame_size: 64 takes"},
		"a shorter video":  {func(t *testing.T, dir string) { storeOf(t, dir, "v3-video", 8, 8, 8, 10, 1) }, "file-000.parquet: episode 0, frame 2: "},
		"how short it is":  {func(t *testing.T, dir string) { storeOf(t, dir, "v3-video", 8, 8, 8, 10, 1) }, "the video is shorter than its table: it ends with frame 1 at 0.1000 s, and the table has a frame at 0.2000 s"},
		"frames a second":  {func(t *testing.T, dir string) { storeOf(t, dir, "v3-video", 8, 8, 8, 8, 0) }, "episode 0, frame 1: "},
		"which they are":   {func(t *testing.T, dir string) { storeOf(t, dir, "v3-video", 8, 8, 8, 8, 0) }, "the video has 8 frames a second, meta/info.json says 10"},
		"damage":           {func(t *testing.T, dir string) { damage(t, dir, first, -9) }, "damaged"},
		"a changed video":  {func(t *testing.T, dir string) { damage(t, dir, first, 0) }, "bytes, and had"},
		"a size it is not": {func(t *testing.T, dir string) { storeShape(t, dir) }, "has frames of 24×16 pixels (width × height), meta/info.json says that they are [32 24 3]"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, filepath.Join("testdata", "lerobot", "v3-video"))
			if c.spoil != nil {
				c.spoil(t, dir)
			}
			d, err := Open(lerobotJob(dir, "Split", "all"), lerobotNeeds, 1, ".", nil)
			if err == nil {
				d.Close()
				t.Fatal("it opens")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
			if name == "not imported" && !errors.Is(err, os.ErrNotExist) {
				t.Error("a worker would not ask for the samples instead")
			}
		})
	}
}

// damage makes a store and flips a byte of the file's end, or with at 0 changes the video.
func damage(t *testing.T, dir, video string, at int) {
	t.Helper()
	storeOf(t, dir, "v3-video", 8, 8, 8, 10, 0)
	path := filepath.Join(dir, video)
	if at < 0 {
		path = storeFile(filepath.Join(dir, framesFolder), 8, video)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		b[len(b)+at] ^= 1
	} else {
		b = append(b, 0)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func storeShape(t *testing.T, dir string) {
	t.Helper()
	storeOf(t, dir, "v3-video", 8, 8, 8, 10, 0)
	path := filepath.Join(dir, "meta/info.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte("16,\n    24,"), []byte("32,\n    24,"), 1)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A check goes on over frames that are missing, and names each with its number for
// data.skip; what is left out so is not looked at.
func TestCheckGoesOnOverVideos(t *testing.T) {
	dir := copyTree(t, filepath.Join("testdata", "lerobot", "v3-video"))
	storeOf(t, dir, "v3-video", 8, 8, 8, 10, 1)
	var faults []Fault
	w := Watch{Fault: func(f Fault) { faults = append(faults, f) }}
	d, err := OpenContext(context.Background(), lerobotJob(dir, "Split", "all"), lerobotNeeds, 1, ".", nil, w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Survey(context.Background(), Survey{Threads: 1, Fault: w.Fault}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	var at []string
	for _, f := range faults {
		at = append(at, fmt.Sprintf("%s %d %d %d", f.Kind, *f.Sample, *f.Episode, *f.Frame))
	}
	if got := strings.Join(at, ", "); got != "picture 2 0 2, picture 8 2 1" {
		t.Errorf("%s\n%+v", got, faults)
	}
	d, err = Open(lerobotJob(dir, "Split", "all", "FileKeys", FileKeys{Skip: []int{2, 8}}), lerobotNeeds, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n := d.Train().Len(); n != 7 {
		t.Errorf("%d samples are left", n)
	}
}

// A check has a look into the videos, too: one of another content and the same length
// is named.
func TestCheckFindsAnotherVideo(t *testing.T) {
	dir := copyTree(t, filepath.Join("testdata", "lerobot", "v3-video"))
	storeOf(t, dir, "v3-video", 8, 8, 8, 10, 0)
	flip(t, filepath.Join(dir, "videos/observation.images.front/chunk-000/file-001.mp4"), 900)
	var faults []Fault
	d, err := OpenContext(context.Background(), lerobotJob(dir, "Split", "all"), lerobotNeeds, 1, ".", nil, Watch{Fault: func(f Fault) { faults = append(faults, f) }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if len(faults) != 1 || faults[0].Kind != "file" || *faults[0].Episode != 1 || !strings.Contains(faults[0].What, "file-001.mp4 has another content than when its frames were imported") {
		t.Errorf("%+v", faults)
	}
	if n := d.Train().Len(); n != 3 { // of episode 0
		t.Errorf("%d samples are left to look at", n)
	}
}

// One import by the ffmpeg of this machine: whole, resumed, and after a video changed.
func TestImport(t *testing.T) {
	if _, err := frames.Find(); err != nil {
		t.Log("NOT TESTED: import of videos:", err)
		t.Skip("no ffmpeg")
	}
	dir := copyTree(t, filepath.Join("testdata", "lerobot", "v3-video"))
	cfg := lerobotJob(dir, "Split", "all")
	var told Progress
	run := func(videos, ready int) {
		t.Helper()
		p, err := PlanImport(cfg, lerobotNeeds, ".", Import{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Videos != videos || p.Ready != ready || p.Size != 8 {
			t.Fatalf("%+v", p)
		}
		err = p.Run(context.Background(), 2, func(x Progress) { told = x }, func(err error) { t.Error(err) }, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
	}
	// An end that was asked for leaves nothing half done.
	p, err := PlanImport(cfg, lerobotNeeds, ".", Import{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = p.Run(ctx, 1, func(Progress) { cancel() }, func(err error) { t.Error(err) }, func(err error) { t.Error(err) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	filepath.WalkDir(p.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("%s is left of it", path)
		}
		return err
	})
	run(2, 0)
	if told.Done != 9 || told.Total != 9 {
		t.Errorf("told %+v", told)
	}
	fp := pictured(t, cfg, 4)
	run(2, 2)
	// As if killed while the second video was decoded.
	root := filepath.Join(dir, framesFolder)
	store := storeFile(root, 8, "videos/observation.images.front/chunk-000/file-001.mp4")
	left := filepath.Join(filepath.Dir(store), "."+filepath.Base(store)+"-123")
	if err := errors.Join(os.Remove(store), os.WriteFile(left, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg, lerobotNeeds, 1, ".", nil); err == nil {
		t.Error("it opens without the frames of a video")
	}
	run(2, 1)
	if again := pictured(t, cfg, 4); again != fp {
		t.Error("the second import has other frames")
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left lies there: %v", err)
	}
	// Another video in its place is decoded anew.
	if err := os.Rename(filepath.Join(dir, "videos/observation.images.front/chunk-000/file-000.mp4"), filepath.Join(dir, "videos/observation.images.front/chunk-000/file-001.mp4")); err != nil {
		t.Fatal(err)
	}
	p, err = PlanImport(cfg, lerobotNeeds, ".", Import{})
	if err != nil || p.Ready != 1 { // file-000 is gone, and was imported
		t.Fatalf("%+v, %v", p, err)
	}
	var faults []string
	if err := p.Run(context.Background(), 1, func(Progress) {}, func(err error) { faults = append(faults, err.Error()) }, func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	if len(faults) != 2 || !strings.Contains(faults[0], "episode 1, frame 3: ") || !strings.Contains(faults[1], "episode 2, frame 0: ") {
		t.Errorf("%q", faults)
	}
	// A video that does not decode is named, and no file of it is left.
	if err := os.WriteFile(filepath.Join(dir, "videos/observation.images.front/chunk-000/file-001.mp4"), []byte("no video at all"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err = PlanImport(cfg, lerobotNeeds, ".", Import{Size: 6, Cameras: []string{"front"}, Frames: t.TempDir()})
	if err == nil {
		t.Fatalf("file-000 is missing, and the plan is %+v", p)
	}
	if want := "episode 0: its video of observation.images.front is missing"; !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	faults = nil
	p, err = PlanImport(cfg, lerobotNeeds, ".", Import{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(context.Background(), 1, func(Progress) {}, func(err error) { faults = append(faults, err.Error()) }, func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	if len(faults) != 1 || !strings.Contains(faults[0], "file-001.mp4 (observation.images.front, episode 1): it does not decode: ffmpeg says: ") {
		t.Errorf("%q", faults)
	}
	if after, err := os.ReadFile(store); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the store's file is another: %v", err)
	}
}

// What cannot be imported is said before anything is done.
func TestPlanImportRefuses(t *testing.T) {
	dir := filepath.Join("testdata", "lerobot", "v3")
	if _, err := PlanImport(lerobotJob(dir), lerobotNeeds, ".", Import{}); err == nil || !strings.Contains(err.Error(), "no camera is video") {
		t.Errorf("%v", err)
	}
	if _, err := PlanImport(of(job.Data{Kind: "rlds", Path: dir}), lerobotNeeds, ".", Import{}); err == nil || !strings.Contains(err.Error(), "data.kind rlds has no videos") {
		t.Errorf("%v", err)
	}
	video := lerobotJob(filepath.Join("testdata", "lerobot", "v3-video"))
	if _, err := PlanImport(video, lerobotNeeds, ".", Import{Cameras: []string{"wrist"}}); err == nil || !strings.Contains(err.Error(), `"wrist" is none of the cameras that are video: observation.images.front`) {
		t.Errorf("%v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := PlanImport(video, lerobotNeeds, ".", Import{}); err == nil || !strings.Contains(err.Error(), "install it (Debian, Ubuntu: apt-get install ffmpeg") {
		t.Errorf("%v", err)
	}
}

// The shrinker is the resizer, rounded to bytes.
func TestShrink(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s shrinker
	for range 50 {
		h, w := 1+rng.IntN(20), 1+rng.IntN(20)
		toH, toW := 1+rng.IntN(h), 1+rng.IntN(w)
		rgb := make([]byte, 3*h*w)
		for i := range rgb {
			rgb[i] = byte(rng.Uint32())
		}
		got := s.shrink(nil, rgb, h, w, toH, toW)
		for y := range toH {
			for x := range toW {
				for c := range 3 {
					sum, area := 0, h*w // in units of 1/(toH·toW) of a pixel
					for j := range h {
						dy := min((j+1)*toH, (y+1)*h) - max(j*toH, y*h)
						for i := range w {
							if dx := min((i+1)*toW, (x+1)*w) - max(i*toW, x*w); dx > 0 && dy > 0 {
								sum += dx * dy * int(rgb[3*(j*w+i)+c])
							}
						}
					}
					if want := byte((2*sum + area) / (2 * area)); got[3*(y*toW+x)+c] != want {
						t.Fatalf("%d×%d to %d×%d, at %d %d %d: %d, want %d", w, h, toW, toH, x, y, c, got[3*(y*toW+x)+c], want)
					}
				}
			}
		}
	}
}
