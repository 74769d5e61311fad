package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/vlaring/vlaring/pkg/models"
)

// A second opening takes the numbers of a table from the Scan, and is the first in
// all that it says; a changed table, and a damaged memo, are read.
func TestLeRobotScan(t *testing.T) {
	for _, form := range []string{"v3", "v21", "v3-video"} {
		t.Run(form, func(t *testing.T) {
			dir := copyTree(t, filepath.Join("testdata", "lerobot", form))
			if form == "v3-video" {
				storeOf(t, dir, form, 8, 8, 8, 10, 0)
			}
			age(t, dir)
			c := scanCase{cfg: lerobotJob(dir, "Split", "all", "FrameKeys", FrameKeys{State: []string{"observation.state"}}), needs: append(slices.Clone(lerobotNeeds), models.Known(models.State, 0))}
			w := Watch{Scans: &ScanDir{Dir: t.TempDir()}}
			read, was := c.mustOpen(t, Watch{}), c.mustOpen(t, w)
			again := c.mustOpen(t, w)
			if a, b := look(t, read), look(t, was); !reflect.DeepEqual(a, b) {
				t.Error("keeping a scan changes the data")
			}
			if a, b := look(t, read), look(t, again); !reflect.DeepEqual(a, b) {
				t.Error("the second opening differs")
			}
			// The numbers are the memo's: another one there is another one here.
			path := filepath.Join(dir, "data/chunk-000/file-000.parquet")
			if form == "v21" {
				path = filepath.Join(dir, "data/chunk-000/episode_000000.parquet")
			}
			alter := func(f func(memo []byte) []byte) {
				t.Helper()
				files, err := filepath.Glob(filepath.Join(w.Scans.Dir, "*.scan"))
				if err != nil || len(files) != 1 {
					t.Fatal(files, err)
				}
				b, err := os.ReadFile(files[0])
				if err != nil {
					t.Fatal(err)
				}
				s, err := DecodeScan(b)
				if err != nil {
					t.Fatal(err)
				}
				name, err := filepath.Rel(dir, path)
				if err != nil {
					t.Fatal(err)
				}
				k, ok := s.files[filepath.ToSlash(name)]
				if !ok {
					t.Fatalf("the scan does not know %s", name)
				}
				s.files[filepath.ToSlash(name)] = k.with(f(bytes.Clone(k.memo)))
				if err := w.Scans.store(s); err != nil {
					t.Fatal(err)
				}
			}
			first := func() float32 {
				t.Helper()
				s, err := c.mustOpen(t, w).Train().Sample(0)
				if err != nil {
					t.Fatal(err)
				}
				return s.Values[read.Meta().Spec.Index(models.Actions)].Floats[0]
			}
			alter(func(memo []byte) []byte {
				k := bytes.Index(memo, binary.LittleEndian.AppendUint32(nil, math.Float32bits(0.125))) // of episode 0, frame 1
				if k < 0 {
					t.Fatal("the memo has no action")
				}
				copy(memo[k-12:], binary.LittleEndian.AppendUint32(nil, math.Float32bits(77)))
				return memo
			})
			if got := first(); got != 77 {
				t.Errorf("the table was read: action %v", got)
			}
			alter(func(memo []byte) []byte { return memo[:len(memo)-1] })
			if got := first(); got != 0 {
				t.Errorf("a memo that is cut off was used: action %v", got)
			}
			// A table of another time is read.
			alter(func(memo []byte) []byte {
				k := bytes.Index(memo, binary.LittleEndian.AppendUint32(nil, math.Float32bits(0.125)))
				copy(memo[k-12:], binary.LittleEndian.AppendUint32(nil, math.Float32bits(77)))
				return memo
			})
			touch(t, path)
			if got := first(); got != 0 {
				t.Errorf("a table that was written since is not read: action %v", got)
			}
		})
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A memo is what it was made of, whatever it has; one that is cut or longer is none.
func TestLeRobotMemo(t *testing.T) {
	s := &lerobotScan{o: &Opening{Wants: lerobotNeeds}, videos: map[string]*videoFrames{"front": nil},
		fields: lerobotFields{vectors: []lerobotVector{{name: models.State, sizes: []int{1, 2}}, {name: models.Actions, sizes: []int{1}}}}}
	c := &lerobotColumns{episode: []int64{5, 5, 1 << 40}, frame: []int64{0, 1, 0}, task: []int64{3, 3, -1}, seconds: []float64{0, 0.1, 1e9},
		features: [][]float32{{1, 2, 3}, {1, 2, 3, 4, 5, 6}, {7, float32(math.Inf(1)), 9}}}
	memo := c.memo()
	if got := s.learn(memo); !reflect.DeepEqual(got, c) {
		t.Errorf("%+v", got)
	}
	for n := range memo {
		if s.learn(memo[:n]) != nil {
			t.Errorf("%d bytes of %d are a memo", n, len(memo))
		}
	}
	if s.learn(append(bytes.Clone(memo), 0)) != nil {
		t.Error("a byte more is a memo")
	}
	s.o.Wants = models.Spec{acts(1)}
	if s.learn(memo) != nil {
		t.Error("tasks that nobody wants are read")
	}
}

// FuzzLeRobotMemo: whatever a memo is, reading it ends.
func FuzzLeRobotMemo(f *testing.F) {
	s := &lerobotScan{o: &Opening{Wants: lerobotNeeds}, fields: lerobotFields{vectors: []lerobotVector{{name: models.Actions, sizes: []int{3}}}}}
	f.Add((&lerobotColumns{episode: []int64{1}, frame: []int64{0}, task: []int64{0}, features: [][]float32{{1, 2, 3}}}).memo())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c := s.learn(b); c != nil && !bytes.Equal(c.memo(), b) && len(c.episode) > len(b) {
			t.Errorf("%d rows of %d bytes", len(c.episode), len(b))
		}
	})
}

// Opening a thousand episodes reads no picture: here none could be read. Pages of
// pictures are broken on the disk, so that whoever touches one fails.
func TestLeRobotOpensWithoutPictures(t *testing.T) {
	const episodes = 1000
	dir := t.TempDir()
	var rows []lerobotRow
	var list strings.Builder
	for e := range episodes {
		fmt.Fprintf(&list, `{"episode_index": %d, "length": 2}`+"\n", e)
		for f := range 2 {
			rows = append(rows, lerobotRow{lerobotPicture{bytes.Repeat([]byte{byte(e), byte(e >> 8)}, 200)}, []float32{1, 2, float32(e)}, []float32{0, 1}, float32(f) / 10, int64(f), int64(e), 0})
		}
	}
	writeLeRobot(t, dir, list.String(), rows)
	table := filepath.Join(dir, "data/all.parquet")
	// Break all pages of pictures.
	b, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	broken := int64(0)
	for _, g := range f.Metadata().RowGroups {
		for _, c := range g.Columns {
			if c.MetaData.PathInSchema[0] != "observation.images.front" {
				continue
			}
			at, n := c.MetaData.DataPageOffset, c.MetaData.TotalCompressedSize
			if d := c.MetaData.DictionaryPageOffset; d > 0 {
				at = min(at, d)
			}
			clear(b[at : at+n])
			broken += n
		}
	}
	if broken < 100*episodes {
		t.Fatalf("%d bytes of pictures", broken)
	}
	if err := os.WriteFile(table, b, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := Open(lerobotJob(dir), lerobotNeeds, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n := d.Train().Len() + d.Heldout().Len(); n != 2*episodes {
		t.Errorf("%d samples", n)
	}
	if _, err := d.Train().Sample(3); err == nil || !strings.Contains(err.Error(), "observation.images.front") {
		t.Errorf("a broken picture: %v", err)
	}
}
