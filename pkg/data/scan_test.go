package data

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/data/internal/tfrecord"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// scanCase is a data set of which a Scan is made: large enough that a sample of
// its files does not see all of them, and changed last an hour ago.
type scanCase struct {
	cfg    job.Data
	needs  models.Spec
	file   string // of the data set, that holds pictures
	hidden int    // a byte of it, of a picture or value, that no sample has
	shards int    // files that are scanned one by one
}

// grain is a picture that compresses to about its size.
func grain(seed uint64) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, 160, 160))
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range m.Pix {
		m.Pix[i] = byte(r.Uint32()) | byte(255*b2i(i%4 == 3))
	}
	return m
}

func scanCases(t *testing.T) map[string]scanCase {
	rlds := copyDir(t, filepath.Dir(tinyRLDS(t)))
	dir := filepath.Join(rlds, "1.0.0")
	var shards [2][]byte
	for e := range 5 {
		var b tfrecord.Builder
		steps := 2 + e%2
		var first []int64
		var action []float32
		var text, cam0, cam1 [][]byte
		for s := range steps {
			first = append(first, int64(b2i(s == 0)))
			for d := range 7 {
				action = append(action, float32(e)+float32(s)*0.1+float32(d)*0.01)
			}
			text = append(text, []byte([]string{"lift the box", "open the lid", "lift the lid"}[(e+s)%3]))
			cam0 = append(cam0, encodePNG(t, grain(uint64(10*e+s))))
			cam1 = append(cam1, encodePNG(t, grain(99)))
		}
		b.Ints("steps/is_first", first...)
		b.Floats("steps/action", action...)
		b.Strings("steps/language_instruction", text...)
		b.Strings("steps/observation/image_0", cam0...)
		b.Strings("steps/observation/wrist", cam1...)
		k := b2i(e >= 2)
		shards[k] = tfrecord.Append(shards[k], b.Record())
	}
	write(t, dir, "tiny-train.tfrecord-00000-of-00002", shards[0])
	write(t, dir, "tiny-train.tfrecord-00001-of-00002", shards[1])

	folder := t.TempDir()
	var lines []string
	for i := range 6 {
		write(t, folder, fmt.Sprintf("%d.png", i), encodePNG(t, grain(uint64(i))))
		lines = append(lines, fmt.Sprintf(`{"image": "%d.png", "instruction": "open box %d", "action": [%d, %d], "episode": %d}`, i, i%2, i, i*i, i/2))
	}
	write(t, folder, ManifestName, []byte(strings.Join(lines, "\n")))

	n, size := 40, 32
	pixels := make([]float32, n*3*size*size)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range pixels {
		pixels[i] = r.Float32()
	}
	file := writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{n, 3, size, size}, Data: pixels},
		safetensors.Tensor{Name: "instruction_tokens", Shape: []int{n, 1}, Data: make([]int64, n)},
		safetensors.Tensor{Name: "actions", Shape: []int{n, 2}, Data: ramp(2 * n)})
	holdout := job.Holdout{Fraction: 0.3}
	cases := map[string]scanCase{
		"rlds":    {of(job.Data{Kind: "rlds", Path: rlds, Holdout: holdout}, "Camera", "image_0"), models.Spec{pictures(3, 8, 8), words(32), acts(0)}, filepath.Join(dir, "tiny-train.tfrecord-00001-of-00002"), 0, 2},
		"folder":  {of(job.Data{Kind: "folder", Path: folder, Holdout: holdout}), models.Spec{pictures(3, 8, 8), words(32), acts(0)}, filepath.Join(folder, "3.png"), 0, 1},
		"tensors": {of(job.Data{Kind: "tensors", Path: file, Holdout: holdout}), models.Spec{pictures(3, size, size), words(32), acts(0)}, file, 0, 1},
	}
	for name, c := range cases {
		age(t, c.cfg.Path)
		b, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := sampled(bytes.NewReader(b), int64(len(b)))
		for c.hidden = len(b) / 2; ; c.hidden++ { // the middle of a picture, between two blocks
			b[c.hidden] ^= 1
			if got, _ := sampled(bytes.NewReader(b), int64(len(b))); got == want {
				break
			}
			b[c.hidden] ^= 1
		}
		cases[name] = c
	}
	return cases
}

// age makes all files under path an hour old.
func age(t *testing.T, path string) {
	t.Helper()
	filepath.Walk(path, func(p string, info os.FileInfo, err error) error {
		if err == nil {
			err = os.Chtimes(p, time.Time{}, time.Now().Add(-time.Hour))
		}
		if err != nil {
			t.Fatal(err)
		}
		return nil
	})
}

// change rewrites a file by f and leaves its time.
func change(t *testing.T, path string, f func(b []byte) []byte) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// flip changes a byte of a file and leaves its time.
func flip(t *testing.T, path string, at int) {
	t.Helper()
	change(t, path, func(b []byte) []byte { b[at] ^= 1; return b })
}

func (c scanCase) open(t *testing.T, w Watch) (Dataset, error) {
	t.Helper()
	d, err := OpenContext(context.Background(), c.cfg, c.needs, 1, ".", nil, w)
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

func (c scanCase) mustOpen(t *testing.T, w Watch) Dataset {
	t.Helper()
	d, err := c.open(t, w)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// look is all that a data set says of itself.
func look(t *testing.T, d Dataset) []any {
	t.Helper()
	out := []any{d.Meta(), d.Findings()}
	for _, s := range []Source{d.Train(), d.Heldout()} {
		for i := range s.Len() {
			x, err := s.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, x)
		}
	}
	x, err := d.Index(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	sum, err := d.Survey(context.Background(), Survey{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return append(out, x, sum)
}

// TestScan guards that data which is known from a Scan is the data as it is read,
// in all that it says of itself, and that its files are not read for that.
func TestScan(t *testing.T) {
	for name, c := range scanCases(t) {
		t.Run(name, func(t *testing.T) {
			want := look(t, c.mustOpen(t, Watch{}))
			scans := &ScanDir{Dir: filepath.Join(t.TempDir(), "new", "scans"), Least: 1}
			for i := range 3 {
				d := c.mustOpen(t, Watch{Scans: scans})
				if got := look(t, d); !reflect.DeepEqual(got, want) {
					t.Fatalf("opening %d says\n%+v\nwant\n%+v", i, got, want)
				}
				if len(d.Scans()) != 1 {
					t.Fatalf("%d Scans for workers", len(d.Scans()))
				}
			}
			// Nobody reads the file: a change that neither time nor sample shows is
			// not seen, but when a picture is read that has it.
			flip(t, c.file, c.hidden)
			d := c.mustOpen(t, Watch{Scans: scans})
			if !reflect.DeepEqual(d.Meta(), want[0]) {
				t.Error("the changed file was read")
			}
			var faults []string
			if _, err := d.Survey(context.Background(), Survey{Threads: 1, Fault: func(f Fault) { faults = append(faults, f.What) }}); err != nil {
				t.Fatal(err)
			}
			text := strings.Join(faults, "\n")
			if name != "tensors" && (len(faults) != 1 || !strings.Contains(text, "CRC-32C") || !strings.Contains(text, "has changed")) {
				t.Errorf("a look at the samples says %q", text)
			}
			// A file of another time is read again.
			if err := os.Chtimes(c.file, time.Time{}, time.Now().Add(-time.Minute)); err != nil {
				t.Fatal(err)
			}
			d, err := c.open(t, Watch{Scans: scans})
			if name == "rlds" { // whose records have checksums of their own
				if err == nil || !strings.Contains(err.Error(), "checksum") {
					t.Errorf("a damaged record: %v", err)
				}
			} else if err != nil || d.Meta().Fingerprint == want[0].(Meta).Fingerprint {
				t.Errorf("after it was touched, the changed file has the old fingerprint (%v)", err)
			}
		})
	}
}

// TestScanKeepsWhatIsRead guards that an opening that ends early or fails has not
// read in vain, and that files that have just been written are read again.
func TestScanKeepsWhatIsRead(t *testing.T) {
	c := scanCases(t)["rlds"]
	scans := &ScanDir{Dir: t.TempDir(), Least: 1}
	ctx, cancel := context.WithCancel(context.Background())
	_, err := OpenContext(ctx, c.cfg, c.needs, 1, ".", nil, Watch{Scans: scans, Progress: func(p Progress) {
		if p.Done == 3 { // within the second of two shards
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	done := func() (at []int64) {
		c.mustOpen(t, Watch{Scans: scans, Progress: func(p Progress) { at = append(at, p.Done) }})
		return at
	}
	if at := done(); !reflect.DeepEqual(at, []int64{2, 2, 3, 4, 5}) {
		t.Errorf("records done: %v; the first shard was known, the second not", at)
	}
	if at := done(); !reflect.DeepEqual(at, []int64{2, 5}) {
		t.Errorf("records done: %v; both shards were known", at)
	}

	fresh := &ScanDir{Dir: t.TempDir(), Least: 1}
	if err := os.Chtimes(c.file, time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	c.mustOpen(t, Watch{Scans: fresh})
	var at []int64
	c.mustOpen(t, Watch{Scans: fresh, Progress: func(p Progress) { at = append(at, p.Done) }})
	if !reflect.DeepEqual(at, []int64{2, 2, 3, 4, 5}) {
		t.Errorf("records done: %v; the second shard is so new that its time means nothing", at)
	}

	small := &ScanDir{Dir: t.TempDir(), Least: 1 << 30}
	d := c.mustOpen(t, Watch{Scans: small})
	if files, _ := os.ReadDir(small.Dir); len(files) > 0 || len(d.Scans()) > 0 {
		t.Errorf("a Scan of less than Least is kept: %v", files)
	}
	blocked := &ScanDir{Dir: filepath.Join(c.file, "under a file"), Least: 1}
	c.mustOpen(t, Watch{Scans: blocked})
	c.mustOpen(t, Watch{Scans: blocked}) // the cache is a convenience
}

// TestScanOfTheCoordinator guards what a worker makes of the coordinator's Scan:
// it opens the same files wherever they are, and names one that differs.
func TestScanOfTheCoordinator(t *testing.T) {
	for name, c := range scanCases(t) {
		t.Run(name, func(t *testing.T) {
			least := int64(1)
			theirs := c.mustOpen(t, Watch{Scans: &ScanDir{Dir: t.TempDir(), Least: least}})
			asked := 0
			there := func(_ context.Context, name string) (*Scan, error) {
				asked++
				for _, s := range theirs.Scans() {
					if s.Name() == name {
						return DecodeScan(s.Encode())
					}
				}
				return nil, nil
			}
			here := c
			root := filepath.Dir(c.file)
			if name == "rlds" {
				root = c.cfg.Path
			}
			copied := func() Watch { // as a copy on another machine, with times of its own
				to := copyDir(t, root)
				rel, _ := filepath.Rel(root, c.file)
				here.file, here.cfg.Path = filepath.Join(to, rel), to
				if name == "tensors" {
					here.cfg.Path = here.file
				}
				return Watch{Scans: &ScanDir{Dir: t.TempDir(), Least: least}, Theirs: there}
			}
			w := copied()
			d := here.mustOpen(t, w)
			if !reflect.DeepEqual(d.Meta(), theirs.Meta()) || asked != 1 {
				t.Errorf("%d questions, and the worker's Meta\n%+v\nis not the coordinator's\n%+v", asked, d.Meta(), theirs.Meta())
			}
			for i := range theirs.Train().Len() {
				a, err := d.Train().Sample(i)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := theirs.Train().Sample(i)
				if a.Origin, b.Origin = "", ""; !reflect.DeepEqual(a, b) {
					t.Fatalf("sample %d is\n%+v\nthe coordinator's\n%+v", i, a, b)
				}
			}
			age(t, root) // kept here now, it is not asked for again
			age(t, here.cfg.Path)
			here.mustOpen(t, Watch{Scans: w.Scans})

			differs := func(what string, change func(b []byte) []byte, want ...string) {
				t.Helper()
				w := copied()
				b, err := os.ReadFile(here.file)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(here.file, change(b), 0o644); err != nil {
					t.Fatal(err)
				}
				d, err := here.open(t, w)
				if len(want) == 0 { // found when the picture is read
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					bad := 0
					for _, s := range []Source{d.Train(), d.Heldout()} {
						for i := range s.Len() {
							if _, err := s.Sample(i); err != nil && strings.Contains(err.Error(), "has changed") {
								bad++
							}
						}
					}
					if bad != 1 {
						t.Errorf("%s: %d samples are found to have changed, want 1", what, bad)
					}
					return
				}
				if !errors.Is(err, ErrOtherData) {
					t.Fatalf("%s: %v", what, err)
				}
				for _, x := range append(want, filepath.Base(here.file)) {
					if !strings.Contains(err.Error(), x) {
						t.Errorf("%s: %q does not say %q", what, err, x)
					}
				}
			}
			size := func(by int) string {
				info, _ := os.Stat(c.file)
				return fmt.Sprint(info.Size()+int64(by), " bytes")
			}
			last := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
			hidden := func(b []byte) []byte { b[c.hidden] ^= 1; return b }
			switch name {
			case "rlds":
				differs("cut off", func(b []byte) []byte { return b[:len(b)-5] }, size(-5), "the coordinator's has "+strings.Fields(size(0))[0])
				differs("another content", last, "another content", "SHA-256")
				differs("a hidden change", hidden)
			case "folder":
				differs("cut off", func(b []byte) []byte { return b[:len(b)-5] }, size(-5), "the coordinator's has "+strings.Fields(size(0))[0])
				differs("another content", last)
				differs("a hidden change", hidden)
			case "tensors": // rows have no checksums: all of the file must be the coordinator's
				differs("another content", last, "another content", "SHA-256")
				differs("a hidden change", hidden, "SHA-256")
			}
		})
	}
}

// TestCheckSeesWhatAScanCannot guards the full look: a file that was changed under
// its old time is found, and the Scan of it forgotten.
func TestCheckSeesWhatAScanCannot(t *testing.T) {
	for name, c := range scanCases(t) {
		t.Run(name, func(t *testing.T) {
			scans := &ScanDir{Dir: t.TempDir(), Least: 1}
			was := c.mustOpen(t, Watch{Scans: scans}).Meta().Fingerprint
			check := func() (out []string) {
				tell := func(f Fault) { out = append(out, f.What) }
				d := c.mustOpen(t, Watch{Scans: scans, Fault: tell})
				if _, err := d.Survey(context.Background(), Survey{Threads: 1, Fault: tell}); err != nil {
					t.Fatal(err)
				}
				for _, f := range d.Findings() {
					out = append(out, f.String())
				}
				return out
			}
			if out := check(); len(out) > 0 {
				t.Fatalf("nothing has changed, and the check says %q", out)
			}
			if name == "rlds" {
				rewrite(t, c.file, c.hidden)
			} else {
				flip(t, c.file, c.hidden)
			}
			if d := c.mustOpen(t, Watch{Scans: scans}); d.Meta().Fingerprint != was {
				t.Fatal("the change is no hidden one")
			}
			if text := strings.Join(check(), "\n"); !strings.Contains(text, filepath.Base(c.file)) || !strings.Contains(text, "was scanned") {
				t.Errorf("the check says %q", text)
			}
			if d := c.mustOpen(t, Watch{Scans: scans}); name != "folder" && d.Meta().Fingerprint == was {
				t.Error("the Scan that does not hold is used again")
			}
		})
	}
}

// rewrite changes a byte of a shard, its checksums with it, and leaves its time.
func rewrite(t *testing.T, path string, at int) {
	t.Helper()
	change(t, path, func(b []byte) (out []byte) {
		r := tfrecord.NewReader(bytes.NewReader(b), int64(len(b)), path)
		for len(out) < len(b) {
			record, offset, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			record = bytes.Clone(record)
			if k := at - int(offset); k >= 0 && k < len(record) {
				record[k] ^= 1
			}
			out = tfrecord.Append(out, record)
		}
		return out
	})
}

func TestScanForm(t *testing.T) {
	s := &Scan{path: "/data/ß", recipe: "0123456789abcdef0123", files: map[string]known{
		"a": {size: 1 << 40, beside: 7, time: -5, sample: [32]byte{1, 31: 2}, content: [32]byte{3}, memo: []byte("memo")},
		"b": {},
	}}
	b := s.Encode()
	got, err := DecodeScan(b)
	if err != nil || !reflect.DeepEqual(got, s) || got.Name() != "0123456789abcdef" {
		t.Errorf("%+v, %v\nwant %+v", got, err, s)
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := DecodeScan(b); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
			b[i] ^= 1 << bit
		}
		if _, err := DecodeScan(b[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

// FuzzScan guards that no file of a cache and no answer of a coordinator, however
// wrong, does more than to be read anew.
func FuzzScan(f *testing.F) {
	k := folderKnown{"sha256:0", pictureTally{n: 2, turned: seen{1, "a"}, orientation: 3}, []folderPicture{{stamp{5, -6}, 7}, {stamp{8, 9}, 10}}}
	f.Add((&Scan{path: "p", recipe: "r", files: map[string]known{"a": {size: 3, memo: k.memo()}}}).Encode()[6:])
	f.Add(rangesMemo(map[string]valueRange{"images": {lo: -1, hi: 2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		scan := binary.LittleEndian.AppendUint16([]byte(scanMagic), scanVersion)
		scan = append(scan, b...)
		if s, err := DecodeScan(reseal(append(scan, 0, 0, 0, 0))); err == nil {
			if again, err := DecodeScan(s.Encode()); err != nil || !reflect.DeepEqual(again, s) {
				t.Fatalf("%+v became %+v, %v", s, again, err)
			}
		}
		if k, ok := folderKnownOf(b); ok {
			if again, ok := folderKnownOf(k.memo()); !ok || !reflect.DeepEqual(again, k) {
				t.Fatalf("%+v became %+v", k, again)
			}
		}
		rangesOf(b)
		s := &rldsScan{o: &Opening{}, pictures: make([][]picture, 2),
			fields: rldsFields{cameras: []string{"c", "d"}, texts: []rldsText{{name: "t"}}, vectors: []rldsVector{{models.State, []rldsPart{{"s", 1, false}}}, {models.Actions, []rldsPart{{"a", 1, false}}}}}}
		s.table.float(models.State).dim = 1
		s.table.float(models.Actions).dim = 1
		if s.learn(b, rldsShard{episodes: 2, to: 2}) {
			t := &s.table
			if n := len(t.episode); n != len(t.text) || n != len(t.float(models.Actions).rows) || n != len(t.float(models.State).rows) || n != len(s.pictures[0]) || n != len(s.pictures[1]) {
				panic("columns of different lengths")
			}
		}
	})
}
