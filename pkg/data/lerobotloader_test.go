package data

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// loaderHead is the first line of tools/lerobot_compare.py.
type loaderHead struct {
	Frames  int    `json:"frames"`
	Backend string `json:"backend"`
	Numbers []struct {
		Name string `json:"name"`
		Size int    `json:"size"`
	} `json:"numbers"`
	Pictures []struct {
		Name  string `json:"name"`
		Shape [2]int `json:"shape"`
	} `json:"pictures"`
}

// Every tensor of every frame of the real data sets is what LeRobot's own loader
// gives: numbers and tasks exactly, pictures in tables exactly, frames of videos on
// average within 2 of 255. Minutes: LEROBOT_PYTHON=…/bin/python says that it is
// meant, or LEROBOT_FRAMES=DIR has what the script wrote before (DIR/metaworld.bin).
func TestLeRobotLoader(t *testing.T) {
	python, kept := os.Getenv("LEROBOT_PYTHON"), os.Getenv("LEROBOT_FRAMES")
	if python == "" && kept == "" {
		t.Log("NOT TESTED: the data sets beside LeRobot's own loader: LEROBOT_PYTHON names no Python that has lerobot")
		t.Skip("no LEROBOT_PYTHON")
	}
	for name, video := range map[string]bool{"metaworld": false, "metaworld-video": true, "g1": true} {
		t.Run(name, func(t *testing.T) {
			path := shared(t, name)
			var in io.Reader
			if kept != "" {
				f, err := os.Open(filepath.Join(kept, name+".bin"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				in = f
			} else {
				cmd := exec.Command(python, filepath.Join("..", "..", "tools", "lerobot_compare.py"), path)
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := cmd.Wait(); err != nil {
						t.Error(err)
					}
				}()
				in = out
			}
			compareToLoader(t, path, video, bufio.NewReaderSize(in, 1<<20))
		})
	}
}

// shared is a data set beside the repository.
func shared(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "..", "shared", "data", name))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // beside the repository, or beside a folder of work trees
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Join(path, "..", "..", "..", "..", "shared", "data", name)
	}
	t.Logf("NOT TESTED: %s is not there", path)
	t.Skip("no data")
	return ""
}

func compareToLoader(t *testing.T, path string, video bool, in *bufio.Reader) {
	line, err := in.ReadBytes('\n')
	var head loaderHead
	if err == nil {
		err = json.Unmarshal(line, &head)
	}
	if err != nil {
		t.Fatal(err)
	}
	cameras, wants := []string{}, models.Spec{words(64), models.Known(models.Actions, 0), models.Known(models.State, 0)}
	for n, p := range head.Pictures {
		image := models.Known(models.Images, 3, 8, 8)
		image.Name = models.View(n, 0)
		cameras, wants = append(cameras, p.Name), append(wants, image)
	}
	cfg := of(job.Data{Kind: "lerobot", Path: path}, "FrameKeys", FrameKeys{Cameras: cameras, State: []string{"observation.state"}}, "Split", "train")
	if video {
		store := t.TempDir()
		side := 0
		for _, p := range head.Pictures {
			side = max(side, p.Shape[0], p.Shape[1])
		}
		cfg = of(cfg, "VideoKeys", VideoKeys{Frames: store, FrameSize: side})
		plan, err := PlanImport(cfg, wants, ".", Import{})
		if err != nil && strings.Contains(err.Error(), "no ffmpeg") {
			t.Skip(err)
		}
		if err == nil {
			err = plan.Run(context.Background(), 2, func(Progress) {}, func(err error) { t.Error(err) }, func(err error) { t.Error(err) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(cfg, wants, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Train().Len() != head.Frames {
		t.Fatalf("%d frames, LeRobot has %d", d.Train().Len(), head.Frames)
	}
	spec := d.Meta().Spec
	tok, err := newTokenizer(d.Meta().Vocab, spec.Len(models.Instruction, 0))
	if err != nil {
		t.Fatal(err)
	}
	diffs := make([]float64, len(head.Pictures))
	worst := make([]float64, len(head.Pictures)) // frame's mean
	var place [3]int64
	for i := range head.Frames {
		s, err := d.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := binary.Read(in, binary.LittleEndian, &place); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("episode %d frame %d", place[0], place[1]); !strings.HasSuffix(s.Origin, want) {
			t.Fatalf("sample %d is %s, LeRobot's is %s", i, s.Origin, want)
		}
		task := make([]byte, place[2])
		if _, err := io.ReadFull(in, task); err != nil {
			t.Fatal(err)
		}
		ids, err := tok.Encode(string(task))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(s.Values[spec.Index(models.Instruction)].Ints), fmt.Sprint(ids); got != want {
			t.Fatalf("%s: tokens %s, want %s of %q", s.Origin, got, want, task)
		}
		for _, n := range head.Numbers {
			want := make([]float32, n.Size)
			if err := binary.Read(in, binary.LittleEndian, want); err != nil {
				t.Fatal(err)
			}
			ours := map[string]string{"action": models.Actions, "observation.state": models.State}[n.Name]
			if got := s.Values[spec.Index(ours)].Floats; string(octets.Bytes(got)) != string(octets.Bytes(want)) {
				t.Fatalf("%s: %s is %v, LeRobot's is %v", s.Origin, n.Name, got, want)
			}
		}
		for n, p := range head.Pictures {
			want := make([]byte, 3*p.Shape[0]*p.Shape[1])
			if _, err := io.ReadFull(in, want); err != nil {
				t.Fatal(err)
			}
			img := s.Values[spec.Index(models.View(n, 0))].Image
			if img.Encoded != nil {
				if img, err = decodeImage(img.Encoded); err != nil {
					t.Fatal(err)
				}
			}
			if img.H != p.Shape[0] || img.W != p.Shape[1] {
				t.Fatalf("%s: %s is %d×%d, LeRobot's is %v", s.Origin, p.Name, img.H, img.W, p.Shape)
			}
			sum := 0
			for k, v := range img.RGB {
				sum += max(int(v)-int(want[k]), int(want[k])-int(v))
			}
			mean := float64(sum) / float64(len(want))
			diffs[n], worst[n] = diffs[n]+mean/float64(head.Frames), max(worst[n], mean)
		}
	}
	if n, _ := io.Copy(io.Discard, in); n != 0 {
		t.Errorf("LeRobot has %d bytes more", n)
	}
	for n, p := range head.Pictures {
		t.Logf("%s, %s: %d frames, mean absolute difference %.4f of 255, the worst frame %.4f (LeRobot's decoder: %s)", filepath.Base(path), p.Name, head.Frames, diffs[n], worst[n], head.Backend)
		if limit := map[bool]float64{true: 2}[video]; worst[n] > limit {
			t.Errorf("more than %v of 255", limit)
		}
	}
}
