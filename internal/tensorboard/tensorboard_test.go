package tensorboard

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew; then run tools/tensorboard_compare.py")

// point is what a reader of its own, which shares no code with the writer, finds in a file.
type point struct {
	Step  uint64
	Tag   string
	Value string // of any kind
}

// dumb reads an event file as the specification has it, and panics at what it does not
// expect.
func dumb(t *testing.T, b []byte) (points []point, sessions []uint64) {
	t.Helper()
	sum := func(b []byte) uint32 {
		c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		return uint32(uint64(c>>15|c<<17) + 0xa282ead8)
	}
	type item struct {
		n int
		v any // uint64 or []byte
	}
	split := func(m []byte) (l []item) {
		for len(m) > 0 {
			k, n := binary.Uvarint(m)
			m = m[n:]
			switch k & 7 {
			case 0:
				v, n := binary.Uvarint(m)
				l, m = append(l, item{int(k >> 3), v}), m[n:]
			case 1:
				l, m = append(l, item{int(k >> 3), binary.LittleEndian.Uint64(m)}), m[8:]
			case 5:
				l, m = append(l, item{int(k >> 3), uint64(binary.LittleEndian.Uint32(m))}), m[4:]
			case 2:
				v, n := binary.Uvarint(m)
				l, m = append(l, item{int(k >> 3), m[n : n+int(v)]}), m[n+int(v):]
			default:
				t.Fatalf("kind %d", k&7)
			}
		}
		return l
	}
	get := func(l []item, n int) any {
		for _, i := range l {
			if i.n == n {
				return i.v
			}
		}
		return nil
	}
	doubles := func(b []byte) (x []float64) {
		for ; len(b) > 0; b = b[8:] {
			x = append(x, math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
		return x
	}
	for len(b) > 0 {
		n := binary.LittleEndian.Uint64(b)
		if sum(b[:8]) != binary.LittleEndian.Uint32(b[8:]) || sum(b[12:12+n]) != binary.LittleEndian.Uint32(b[12+n:]) {
			t.Fatal("a sum is wrong")
		}
		e := split(b[12 : 12+n])
		b = b[16+n:]
		step, _ := get(e, 2).(uint64)
		if s, ok := get(e, 7).([]byte); ok && get(split(s), 1) == uint64(1) {
			sessions = append(sessions, step)
		}
		s, _ := get(e, 5).([]byte)
		for _, v := range split(s) {
			l := split(v.v.([]byte))
			p := point{Step: step, Tag: string(get(l, 1).([]byte))}
			switch {
			case get(l, 2) != nil:
				p.Value = fmt.Sprint(math.Float32frombits(uint32(get(l, 2).(uint64))))
			case get(l, 4) != nil:
				i := split(get(l, 4).([]byte))
				p.Value = fmt.Sprintf("%d×%d %d %x", get(i, 2), get(i, 1), get(i, 3), get(i, 4))
			case get(l, 5) != nil:
				h := split(get(l, 5).([]byte))
				f := func(n int) float64 { return math.Float64frombits(get(h, n).(uint64)) }
				p.Value = fmt.Sprint(f(1), f(2), f(3), f(4), f(5), doubles(get(h, 6).([]byte)), doubles(get(h, 7).([]byte)))
			case get(l, 8) != nil:
				p.Value = string(get(split(get(l, 8).([]byte)), 8).([]byte))
			}
			points = append(points, p)
		}
	}
	return points, sessions
}

func folder(t *testing.T, dir string) (points []point, sessions []uint64) {
	t.Helper()
	names, err := eventFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		p, s := dumb(t, b)
		points, sessions = append(points, p...), append(sessions, s...)
	}
	return points, sessions
}

// Bytes that were made from the specification by others (see docs/formats.md).
func TestKnownBytes(t *testing.T) {
	for want, e := range map[string]message{
		"1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a3286bf577a": event(time.Unix(1, 0)).text(eventVersion, "brain.Event:2"),
		"1a00000000000000129bd82d09000000000000004010072a0d0a0b0a046c6f7373150000003fc33fc24a": valuesEvent(time.Unix(2, 0), 7,
			[]Value{Scalar("loss", 0.5)}),
	} {
		if got := hex.EncodeToString(appendRecord(nil, e)); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// png is a picture of one pixel.
var png, _ = hex.DecodeString("89504e470d0a1a0a0000000d4948445200000001000000010806000000" + "1f15c4890000000d49444154789c63f8cfc0f01f00050001ff56c7a0c20000000049454e44ae426082")

// fill writes something of each kind.
func fill(l *Log, from, to uint64) {
	for s := from; s <= to; s++ {
		at := time.UnixMicro(1_700_000_000_000_000 + int64(s)*250_000)
		l.Add(at, s, Scalar("train/loss", 1/float64(s)), Scalar("train/lr", 1e-3*float64(s)))
		if s%4 == 0 {
			l.Add(at, s, Histogram("weights/a.weight", []float32{-1, 0, 0.25, float32(s), float32(math.NaN())}), Image("attention/all", 1, 1, png), Text("note", fmt.Sprintf("step **%d**", s)))
		}
	}
}

func TestValuesComeBack(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, 0, time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	fill(l, 1, 4)
	l.Add(time.Unix(1_700_000_009, 0), 5, Histogram("weights/one", []float32{2, 2}), Histogram("weights/none", nil), Scalar("big", 1e300))
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	got, sessions := folder(t, dir)
	width := 5.0 / 30
	limits, counts := make([]float64, 31), make([]float64, 31)
	for i := range limits {
		limits[i] = -1 + float64(i)*width
	}
	limits[30] = 4
	counts[1], counts[1+6], counts[1+7], counts[30] = 1, 1, 1, 1
	want := []point{
		{1, "train/loss", "1"}, {1, "train/lr", "0.001"}, {2, "train/loss", "0.5"}, {2, "train/lr", "0.002"},
		{3, "train/loss", fmt.Sprint(float32(1) / 3)}, {3, "train/lr", "0.003"}, {4, "train/loss", "0.25"}, {4, "train/lr", "0.004"},
		{4, "weights/a.weight", fmt.Sprint(-1.0, 4.0, 4.0, 3.25, 17.0625, limits, counts)},
		{4, "attention/all", fmt.Sprintf("1×1 4 %x", png)}, {4, "note", "step **4**"},
		{5, "weights/one", fmt.Sprint(2.0, 2.0, 2.0, 4.0, 8.0, []float64{math.Nextafter(2, 0), 2}, []float64{0, 2})},
		{5, "weights/none", fmt.Sprint(0.0, 0.0, 0.0, 0.0, 0.0, []float64{math.Nextafter(0, -1), 0}, []float64{0, 0})},
		{5, "big", "+Inf"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	if len(sessions) != 0 {
		t.Errorf("a folder that begins has sessions at %v", sessions)
	}
}

// Whatever happened before, a run that goes on has each point of each step once, and
// what comes late, such as a measurement of an earlier step, stays.
func TestGoingOnDoublesNothing(t *testing.T) {
	clean := t.TempDir()
	l, err := Open(clean, 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	fill(l, 1, 20)
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	want, _ := folder(t, clean)

	dir := t.TempDir()
	other := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(other, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		keep, to uint64
		tear     int // bytes cut off the end
	}{{0, 12, 0}, {8, 14, 3}, {8, 9, 0}, {8, 17, 1}, {16, 20, 0}} {
		l, err := Open(dir, c.keep, time.Unix(1_700_000_000, 0)) // the clock stands
		if err != nil {
			t.Fatal(err)
		}
		has, _ := l.Newest("train/loss")
		if has > c.keep {
			t.Errorf("%d: step %d is there, and is to come", i, has)
		}
		if _, ok := l.Newest("nothing"); ok {
			t.Error("a tag is there that nobody wrote")
		}
		fill(l, has+1, c.to)
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		l.Close()
		names, _ := eventFiles(dir)
		last := filepath.Join(dir, names[len(names)-1])
		b, err := os.ReadFile(last)
		if err != nil {
			t.Fatal(err)
		}
		if p, _ := dumb(t, b); p[len(p)-1].Step != c.to {
			t.Errorf("%d: the file that comes last by name ends with step %d, want %d", i, p[len(p)-1].Step, c.to)
		}
		if c.tear > 0 {
			if err := os.WriteFile(last, b[:len(b)-c.tear], 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, sessions := folder(t, dir)
	order := func(a, b point) int {
		if a.Step != b.Step {
			return int(a.Step) - int(b.Step)
		}
		return strings.Compare(a.Tag, b.Tag)
	}
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	if len(sessions) == 0 || sessions[len(sessions)-1] != 17 {
		t.Errorf("sessions begin at %v, the last of them should at 17", sessions)
	}
	if b, err := os.ReadFile(other); err != nil || string(b) != "mine" {
		t.Errorf("another file: %q, %v", b, err)
	}
}

// fullDisk takes so many bytes.
type fullDisk struct {
	*os.File
	room int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	n, err := d.File.Write(p[:min(len(p), d.room)])
	if d.room -= n; err == nil && n < len(p) {
		err = errors.New("full")
	}
	return n, err
}

func TestFullDiskLeavesWholeRecords(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	disk := &fullDisk{l.f.(*os.File), 100}
	l.f = disk
	for range 3 {
		fill(l, 1, 4)
		if l.Flush() == nil {
			t.Fatal("a full disk took it")
		}
	}
	disk.room = 1 << 20
	fill(l, 1, 4)
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if p, _ := folder(t, dir); len(p) != 11 {
		t.Errorf("%d points, want 11: %v", len(p), p)
	}
}

func TestOthersFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, prefix+"1.x")
	if err := os.WriteFile(path, appendRecord(nil, []byte{0xff, 0xff}), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, 0, time.Now()); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("%v", err)
	}
}

// The golden folder is what TensorBoard's own loader has read, value by value; the
// bytes that are written now are those.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	if *rewrite {
		dir = "testdata/golden"
		os.RemoveAll(dir)
	}
	for _, c := range [][3]uint64{{0, 12, 1_700_000_000}, {8, 20, 1_700_000_100}} {
		l, err := Open(dir, c[0], time.Unix(int64(c[2]), 0))
		if err != nil {
			t.Fatal(err)
		}
		has, _ := l.Newest("train/loss")
		fill(l, has+1, c[1])
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	want, _ := filepath.Glob("testdata/golden/" + prefix + "*")
	got, _ := eventFiles(dir)
	if len(want) != 2 || len(got) != 2 {
		t.Fatalf("golden files %v, written ones %v: want two", want, got)
	}
	if *rewrite {
		for _, w := range want { // without this machine's name
			digits := strings.Split(filepath.Base(w), ".")[3]
			os.Rename(w, filepath.Join(dir, prefix+digits+".host.1.vlaring"))
		}
		return
	}
	for i, w := range want {
		a, err := os.ReadFile(w)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, got[i])); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s has other bytes than are written now (%v)", w, err)
		}
	}
	// What TensorBoard's loader has read of them: tools/tensorboard_compare.py --json internal/tensorboard/testdata/golden.
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var real struct{ Scalars, Images, Histograms, Texts map[string][][]any }
	if err := json.Unmarshal(b, &real); err != nil {
		t.Fatal(err)
	}
	seen := map[point]bool{}
	for _, kind := range []map[string][][]any{real.Scalars, real.Images, real.Histograms, real.Texts} {
		for tag, points := range kind {
			for _, p := range points {
				value := fmt.Sprint(p[1])
				switch {
				case real.Scalars[tag] != nil:
					value = fmt.Sprint(float32(p[1].(float64)))
				case real.Images[tag] != nil:
					value = fmt.Sprintf("%v×%v 4 %v", p[1], p[2], p[3])
				case real.Histograms[tag] != nil:
					value = fmt.Sprint(p[1:]...)
				}
				seen[point{uint64(p[0].(float64)), tag, value}] = true
			}
		}
	}
	points, _ := folder(t, "testdata/golden")
	for _, p := range points {
		if !seen[p] {
			t.Errorf("TensorBoard has not read %v", p)
		}
	}
	if len(seen) != len(points) || len(points) != 20+20+3*5 {
		t.Errorf("TensorBoard has read %d points, of %d", len(seen), len(points))
	}
}

func FuzzRecords(f *testing.F) {
	l, err := Open(f.TempDir(), 0, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	fill(l, 1, 4)
	f.Add(l.added, uint64(2))
	f.Add(l.added[:len(l.added)-5], uint64(9))
	f.Add(appendRecord(nil, []byte{0x2a, 0x7f}), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, keep uint64) {
		dir := t.TempDir()
		path := filepath.Join(dir, prefix+"1.x")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := Open(dir, keep, time.Now())
		if err != nil {
			if _, serr := os.Stat(path); serr != nil {
				t.Errorf("a file that is refused is gone: %v", err)
			}
			return
		}
		l.Close()
		rest, err := os.ReadFile(path)
		if err != nil {
			return // no point in it
		}
		for r := bytes.NewReader(rest); ; {
			_, e, err := nextRecord(r, nil)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("what stays is torn: %v", err)
			}
			if step, tags, err := look(e); err != nil || len(tags) > 0 && step > keep {
				t.Fatalf("step %d with %v stays beyond %d (%v)", step, tags, keep, err)
			}
		}
	})
}
