package convert

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// member is one file of a shard; name, content.
type member struct {
	name string
	body []byte
}

func shardOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.body)), Mode: 0o444}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func picture(w, h int, c byte) image.Image {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.Set(i%w, i/w, color.NRGBA{R: c, G: byte(i), B: 7, A: 255})
	}
	return m
}

func pngOf(w, h int, c byte) []byte {
	var b bytes.Buffer
	png.Encode(&b, picture(w, h, c))
	return b.Bytes()
}

func jpegOf(w, h int, c byte) []byte {
	var b bytes.Buffer
	jpeg.Encode(&b, picture(w, h, c), nil)
	return b.Bytes()
}

// npyOf is an array as numpy.save writes it.
func npyOf(descr string, shape string, v any) []byte {
	head := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape)
	head += strings.Repeat(" ", (64-(11+len(head))%64)%64) + "\n"
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(head)), byte(len(head)>>8))
	b, err := binary.Append(append(b, head...), binary.LittleEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}

func zipped(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// row is a row of the tables of the tests' data set.
type row struct {
	Front struct {
		Bytes []byte `parquet:"bytes,optional"`
		Path  string `parquet:"path,optional"`
	} `parquet:"observation.images.front,optional"`
	Wrist struct {
		Bytes []byte `parquet:"bytes,optional"`
	} `parquet:"observation.images.wrist,optional"`
	State   []float32 `parquet:"observation.state,optional,list"`
	Action  []float32 `parquet:"action,optional,list"`
	Done    int64     `parquet:"next.done,optional"`
	Time    float32   `parquet:"timestamp,optional"`
	Frame   int64     `parquet:"frame_index,optional"`
	Episode int64     `parquet:"episode_index,optional"`
	Index   int64     `parquet:"index,optional"`
	Task    int64     `parquet:"task_index,optional"`
}

// frameOf is frame f of episode e as members of a shard: every kind of member once.
func frameOf(e string, f int, key string) []member {
	x := float64(f) + float64(len(e))/8
	about, _ := json.Marshal(map[string]any{"frame_index": f, "state": []float64{x, -x}, "names": map[string][]string{"state": {"x", "y"}, "action": {"dx", "dy", "grip"}}, "camera": "none"})
	return []member{
		{key + ".action.npy", npyOf("<f8", "(3,)", []float64{x / 3, 1e-40, float64(f % 2)})},
		{key + ".Front.PNG", pngOf(8, 6, byte(16*f))},
		{key + ".done.npy", npyOf("|b1", "(1,)", []byte{byte(f % 2)})},
		{key + ".json.gz", zipped(about)},
		{key + ".mp4", []byte("a film")},
		{key + ".txt", []byte("push the " + e + "\n")},
		{key + ".wrist.npy", npyOf("|u1", "(2, 4, 3)", bytes.Repeat([]byte{1, 2, byte(f)}, 8))},
	}
}

// Shards of every kind of member become the LeRobot form, each value where it belongs.
func TestWebDatasetToLeRobot(t *testing.T) {
	dir := t.TempDir()
	var first, second []member
	first = append(first, member{"__meta__/info.json", []byte("no sample")}, member{"README", []byte("no key")})
	for f := range 3 {
		first = append(first, frameOf("door", f, fmt.Sprintf("./a.b/ep-door/%04d", f))...)
	}
	second = append(second, frameOf("door", 3, "a.b/ep-door/0003")...) // an episode goes on in the next shard
	for f := range 2 {
		second = append(second, frameOf("lamp", f, fmt.Sprintf("ep-lamp/%04d", f))...)
	}
	write(t, filepath.Join(dir, "s-00.tar"), shardOf(t, first...))
	write(t, filepath.Join(dir, "s-01.tar"), zipped(shardOf(t, second...)))
	out := filepath.Join(dir, "new", "set")
	told := 0
	r, err := Run(context.Background(), Options{Shards: []string{filepath.Join(dir, "s-{00..01}.tar")}, Out: out, FPS: 5, Robot: "arm",
		Progress: func(frames int, done, total int64) { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	want := Report{Form: LeRobot, Episodes: 2, Frames: 6, Tasks: 2, Features: []string{"observation.images.front 8×6", "observation.images.wrist 4×2", "action [3]", "next.done [1]", "observation.state [2]"},
		Passed: map[string]int{"members .mp4": 6, "key camera of .json": 6}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("report %+v\nwant   %+v", r, want)
	}
	if told != 6 {
		t.Errorf("progress was told %d times", told)
	}
	rows, err := parquet.ReadFile[row](filepath.Join(out, "data/chunk-000/file-000.parquet"))
	if err != nil || len(rows) != 6 {
		t.Fatal(len(rows), err)
	}
	for i, got := range rows {
		e, name, f := 0, "door", i
		if i >= 4 {
			e, name, f = 1, "lamp", i-4
		}
		x := float64(f) + float64(len(name))/8
		if got.Frame != int64(f) || got.Episode != int64(e) || got.Index != int64(i) || got.Task != int64(e) || got.Time != float32(float64(f)/5) || got.Done != int64(f%2) {
			t.Errorf("row %d: %+v", i, got)
		}
		if want := []float32{float32(x / 3), float32(1e-40), float32(f % 2)}; !reflect.DeepEqual(got.Action, want) {
			t.Errorf("row %d: action %v, want %v", i, got.Action, want)
		}
		if want := []float32{float32(x), float32(-x)}; !reflect.DeepEqual(got.State, want) {
			t.Errorf("row %d: state %v, want %v", i, got.State, want)
		}
		if !bytes.Equal(got.Front.Bytes, pngOf(8, 6, byte(16*f))) || got.Front.Path != fmt.Sprintf("frame-%06d.png", f) {
			t.Errorf("row %d: its picture is another, %s", i, got.Front.Path)
		}
		m, err := png.Decode(bytes.NewReader(got.Wrist.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		if c := color.NRGBAModel.Convert(m.At(3, 1)); c != (color.NRGBA{1, 2, byte(f), 255}) || m.Bounds().Dx() != 4 {
			t.Errorf("row %d: wrist has %v", i, c)
		}
	}
	file, err := os.Open(filepath.Join(out, "data/chunk-000/file-000.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, _ := file.Stat()
	p, err := parquet.OpenFile(file, info.Size())
	if err != nil || len(p.RowGroups()) != 2 || p.RowGroups()[0].NumRows() != 4 {
		t.Errorf("row groups %v, %v; want one an episode", p.RowGroups(), err)
	}
	var about struct {
		FPS      int                `json:"fps"`
		Robot    string             `json:"robot_type"`
		Splits   map[string]string  `json:"splits"`
		Features map[string]feature `json:"features"`
	}
	readJSON(t, filepath.Join(out, "meta/info.json"), &about)
	if about.FPS != 5 || about.Robot != "arm" || about.Splits["train"] != "0:2" || !reflect.DeepEqual(about.Features["action"], feature{"float32", []int{3}, []string{"dx", "dy", "grip"}}) ||
		!reflect.DeepEqual(about.Features["observation.images.front"], feature{"image", []int{6, 8, 3}, []string{"height", "width", "channel"}}) {
		t.Errorf("info %+v", about)
	}
	var stats map[string]map[string]any
	readJSON(t, filepath.Join(out, "meta/stats.json"), &stats)
	// x is 0.5, 1.5, 2.5, 3.5 and 0.5, 1.5
	want6 := map[string]float64{"min": 0.5, "max": 3.5, "mean": 10.0 / 6, "q50": 1.5}
	for k, w := range want6 {
		if got := stats["observation.state"][k].([]any)[0].(float64); math.Abs(got-w) > 1e-12 {
			t.Errorf("%s of the state is %v, want %v", k, got, w)
		}
	}
	type line struct {
		Tasks []string `parquet:"tasks,optional,list"`
		From  int64    `parquet:"dataset_from_index,optional"`
		To    int64    `parquet:"dataset_to_index,optional"`
	}
	lines, err := parquet.ReadFile[line](filepath.Join(out, "meta/episodes/chunk-000/file-000.parquet"))
	if want := []line{{[]string{"push the door"}, 0, 4}, {[]string{"push the lamp"}, 4, 6}}; err != nil || !reflect.DeepEqual(lines, want) {
		t.Errorf("episodes %+v, %v", lines, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "new", ".*")); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}

// Samples that stand by themselves become a folder.
func TestWebDatasetToFolder(t *testing.T) {
	dir := t.TempDir()
	var all []member
	for i := range 2 {
		key := fmt.Sprintf("%03d", i)
		all = append(all, member{key + ".jpg", jpegOf(8, 8, byte(i))}, member{key + ".json", fmt.Appendf(nil, `{"task": "go to %d", "action": [%d, 0.5]}`, i, i)})
	}
	out := filepath.Join(dir, "out")
	r, err := Run(context.Background(), Options{Shards: []string{"-"}, Stdin: bytes.NewReader(shardOf(t, all...)), Out: out})
	if err != nil || r.Form != Folder || r.Frames != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	b, err := os.ReadFile(filepath.Join(out, "manifest.jsonl"))
	if want := `{"action":[0,0.5],"image":"image/000/000000.jpg","instruction":"go to 0"}` + "\n" + `{"action":[1,0.5],"image":"image/000/000001.jpg","instruction":"go to 1"}` + "\n"; err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(out, "image/000/000001.jpg")); err != nil || !bytes.Equal(b, jpegOf(8, 8, 1)) {
		t.Errorf("the picture is another (%v)", err)
	}
}

// What tools/hdf5_shards.py makes of a file of LIBERO's form; tools/hdf5_fixture.py
// has the formulas.
func TestHDF5Shards(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	r, err := Run(context.Background(), Options{Shards: []string{"testdata/libero.tar.gz"}, Out: out})
	if err != nil || r.Form != LeRobot || r.Episodes != 3 || r.Frames != 9 || len(r.Passed) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	type frame struct {
		Action []float32 `parquet:"action,optional,list"`
		State  []float32 `parquet:"observation.state,optional,list"`
		View   struct {
			Bytes []byte `parquet:"bytes,optional"`
		} `parquet:"observation.images.agentview,optional"`
	}
	rows, err := parquet.ReadFile[frame](filepath.Join(out, "data/chunk-000/file-000.parquet"))
	if err != nil || len(rows) != 9 {
		t.Fatal(len(rows), err)
	}
	i := 0
	for _, demo := range []struct{ n, frames int }{{0, 3}, {2, 4}, {10, 2}} { // in their numeric order
		for f := range demo.frames {
			for a, got := range rows[i].Action {
				if want := float32(float64(demo.n) + float64(f)/8 + float64(a)/3); got != want {
					t.Errorf("demo_%d, frame %d: action %d is %v, want %v", demo.n, f, a, got, want)
				}
			}
			for a, got := range rows[i].State {
				if want := float32(float64(f) - float64(a)/7); got != want {
					t.Errorf("demo_%d, frame %d: state %d is %v, want %v", demo.n, f, a, got, want)
				}
			}
			m, err := png.Decode(bytes.NewReader(rows[i].View.Bytes))
			if err != nil {
				t.Fatal(err)
			}
			if c := color.NRGBAModel.Convert(m.At(5, 2)); c != (color.NRGBA{byte(20*demo.n + f), 2, 5, 255}) {
				t.Errorf("demo_%d, frame %d: pixel %v", demo.n, f, c)
			}
			i++
		}
	}
	if len(rows[0].Action) != 7 || len(rows[0].State) != 9 {
		t.Errorf("%d actions, %d of the state", len(rows[0].Action), len(rows[0].State))
	}
}

func TestBadShards(t *testing.T) {
	action := member{"e/0.action.npy", npyOf("<f4", "(2,)", []float32{1, 2})}
	front := member{"e/0.png", pngOf(4, 4, 0)}
	with := func(name string, body []byte) []byte { return shardOf(t, action, front, member{name, body}) }
	for name, c := range map[string]struct {
		shard []byte
		set   func(o *Options)
		want  string
	}{
		"nothing":             {shardOf(t, member{"README", nil}), nil, "there are no samples"},
		"HDF5":                {[]byte("\x89HDF\r\n\x1a\n"), nil, "an HDF5 file: tools/hdf5_shards.py makes shards of it"},
		"cut off":             {shardOf(t, action, front)[:1600], nil, "sample e/0: member .png: unexpected EOF"},
		"a member twice":      {with("e/0.png", pngOf(4, 4, 0)), nil, "sample e/0: it has two members called .png"},
		"no picture":          {shardOf(t, member{"e/0.png", []byte("hello")}), nil, "member .png: it is no PNG or JPEG picture"},
		"an object":           {with("e/0.x.npy", npyOf("|O", "(2,)", []byte{})), nil, "numbers are read, and no objects"},
		"half floats":         {with("e/0.x.npy", npyOf("<f2", "(2,)", []uint16{1, 2})), nil, "save it as float32"},
		"fewer bytes":         {with("e/0.x.npy", npyOf("<f4", "(3,)", []float32{1, 2})), nil, "it has 8 bytes of values; shape [3] of f4 has 12"},
		"a chunk":             {with("e/0.x.npy", npyOf("<f4", "(2, 2)", make([]float32, 4))), nil, "has the shape [2 2]; a sample is one frame"},
		"NaN":                 {with("e/0.state.npy", npyOf("<f4", "(2,)", []float32{1, float32(math.NaN())})), nil, "sample e/0: member .state.npy: value 1 of observation.state is NaN"},
		"null":                {with("e/0.json", []byte(`{"state": [1, null]}`)), nil, "key state: it has null"},
		"two texts":           {shardOf(t, action, front, member{"e/0.txt", nil}, member{"e/0.caption.txt", nil}), nil, "the sample has two texts"},
		"another shape":       {with("e/1.action.npy", npyOf("<f4", "(3,)", make([]float32, 3))), nil, "sample e/1: it has no picture observation.images.image, which the first sample has"},
		"a longer action":     {shardOf(t, action, member{"e/1.action.npy", npyOf("<f4", "(3,)", make([]float32, 3))}), nil, "sample e/1: its action has 3 numbers, the first sample's 2 numbers"},
		"another size":        {shardOf(t, front, member{"e/1.png", pngOf(4, 5, 0)}), nil, "its picture observation.images.image is 4×5, the first sample's 4×4"},
		"one more":            {shardOf(t, front, member{"e/1.png", pngOf(4, 4, 0)}, member{"e/1.top.png", pngOf(4, 4, 0)}), nil, "it has a picture observation.images.top, which the first sample lacks"},
		"an episode again":    {shardOf(t, front, member{"f/0.png", pngOf(4, 4, 0)}, member{"e/1.png", pngOf(4, 4, 0)}), nil, "episode e comes again, and was written as episode 0"},
		"frames out of order": {shardOf(t, front, member{"e/0.json", []byte(`{"frame": 4}`)}, member{"e/1.png", pngOf(4, 4, 0)}, member{"e/1.json", []byte(`{"frame": 3}`)}), nil, "it is frame 3 of episode e and follows frame 4"},
		"no rate":             {shardOf(t, front), func(o *Options) { o.FPS = 0 }, "give it by --fps"},
		"no episodes":         {shardOf(t, member{"0.png", pngOf(4, 4, 0)}), func(o *Options) { o.Form = LeRobot }, "it does not say which episode it is of"},
		"a folder's place":    {shardOf(t, member{"0.png", pngOf(4, 4, 0)}, member{"0.cls", []byte("3")}), nil, "it has cls, for which a folder has no place"},
		"there already":       {shardOf(t, front), func(o *Options) { o.Out = filepath.Dir(o.Out) }, "is there already"},
		"a range":             {shardOf(t, front), func(o *Options) { o.Shards = []string{"x-{3..1}.tar"} }, "{3..1} is no range of shards"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "s.tar")
			write(t, path, c.shard)
			o := Options{Shards: []string{path}, Out: filepath.Join(dir, "out"), FPS: 10}
			if c.set != nil {
				c.set(&o)
			}
			_, err := Run(context.Background(), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
			if l, err := os.ReadDir(dir); len(l) != 1 {
				t.Errorf("it leaves %v, %v", l, err)
			}
		})
	}
}

// A conversion that is stopped leaves nothing.
func TestStopped(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	path := filepath.Join(dir, "s.tar")
	write(t, path, shardOf(t, member{"e/0.png", pngOf(4, 4, 0)}, member{"e/1.png", pngOf(4, 4, 0)}, member{"e/2.png", pngOf(4, 4, 0)}))
	_, err := Run(ctx, Options{Shards: []string{path}, Out: filepath.Join(dir, "out"), FPS: 10, Progress: func(frames int, _, _ int64) {
		if frames == 1 {
			cancel()
		}
	}})
	if l, _ := os.ReadDir(dir); !errors.Is(err, context.Canceled) || len(l) != 1 {
		t.Errorf("%v, and it leaves %v", err, l)
	}
}

// FuzzNPY: whatever stands in an array, reading it ends, by values or an error.
func FuzzNPY(f *testing.F) {
	f.Add(npyOf("<f4", "(2,)", []float32{1, 2}))
	f.Add(npyOf("|u1", "(2, 4, 3)", make([]byte, 24)))
	f.Add(npyOf(">i2", "()", []int16{5}))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseNPY(b)
		if err != nil {
			return
		}
		n := 1
		for _, d := range a.shape {
			n *= d
		}
		if v, err := a.values(); err == nil && v.len() != n {
			t.Errorf("%d values of shape %v", v.len(), a.shape)
		}
	})
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}
