package features

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/models"
)

// part is one of so many floats.
func part(name string, floats int, pictures bool) models.Part {
	return models.Part{Name: name, Pictures: pictures, Steps: 3, Of: 3, Floats: floats, ID: sha256.Sum256([]byte(name))}
}

// key and row are those of input i.
func key(i int) [32]byte { return sha256.Sum256(fmt.Append(nil, i)) }

func row(i, floats int) []float32 {
	x := make([]float32, floats)
	for k := range x {
		x[k] = float32(i) + float32(k)/float32(floats)
	}
	return x
}

// open is a store without room in memory, so that what it has is in its file.
func open(t *testing.T, o Options) (*Store, *[]string) {
	t.Helper()
	var said []string
	o.Say = func(line string) { said = append(said, line) }
	if o.Bytes == 0 {
		o.Bytes = 1 << 20
	}
	if o.memory == 0 {
		o.memory = 1
	}
	o.Pictures = true
	s := Open(o)
	t.Cleanup(s.Close)
	return s, &said
}

// check asks for input i: it must be there or not, and right where it is.
func check(t *testing.T, x models.Shelf, i, floats int, want bool) {
	t.Helper()
	got := make([]float32, floats)
	if ok := x.Get(key(i), got); ok != want || ok && !slices.Equal(got, row(i, floats)) {
		t.Errorf("input %d: there %v (want %v), %v", i, ok, want, got[:min(4, len(got))])
	}
}

// What is put is had again: from memory, from the file, by another store, and of other
// parts there is nothing. NaN and signed zeros keep their bits.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	for _, memory := range []int64{1, 1 << 20} {
		s, said := open(t, Options{Dirs: []string{dir}, memory: memory})
		p := part(fmt.Sprint("a", memory), 7, true)
		x, y := s.Shelf(p), s.Shelf(part(fmt.Sprint("b", memory), 7, false))
		for i := range 20 {
			check(t, x, i, 7, false)
			x.Put(key(i), row(i, 7))
			check(t, x, i, 7, true)
			check(t, y, i, 7, false)
		}
		odd := []float32{float32(math.NaN()), float32(math.Inf(-1)), float32(math.Copysign(0, -1)), 1e-45, 0, math.MaxFloat32, math.Float32frombits(0x7fc00123)}
		x.Put(key(100), odd)
		s.Close()
		again, _ := open(t, Options{Dirs: []string{dir}})
		z := again.Shelf(p)
		for i := range 20 {
			check(t, z, i, 7, true)
		}
		got := make([]float32, 7)
		if !z.Get(key(100), got) {
			t.Fatal("the odd ones are gone")
		}
		for i := range odd {
			if math.Float32bits(got[i]) != math.Float32bits(odd[i]) {
				t.Errorf("%x came back as %x", math.Float32bits(odd[i]), math.Float32bits(got[i]))
			}
		}
		if again.Found != 21 || again.Asked != 21 || len(*said) > 0 {
			t.Errorf("%d of %d were found; said %q", again.Found, again.Asked, *said)
		}
		again.Close()
	}
}

// Nothing is kept where the bound is 0, and no pictures that are changed at random.
func TestNotKept(t *testing.T) {
	if s := Open(Options{Dirs: []string{t.TempDir()}, Pictures: true}); s.Shelf(part("a", 4, true)) != nil || s.Shelf(part("b", 4, false)) != nil {
		t.Error("a bound of 0 keeps")
	}
	dir := filepath.Join(t.TempDir(), "x")
	s := Open(Options{Dirs: []string{dir}, Bytes: 1 << 20})
	if s.Shelf(part("a", 4, true)) != nil {
		t.Error("pictures that never come again are kept")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a folder was made for nothing")
	}
	if s.Shelf(part("b", 4, false)) == nil {
		t.Error("words are not kept")
	}
}

// files are the store files in dir with their sizes.
func files(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	of := map[string]int64{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		i, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		of[e.Name()] = i.Size()
	}
	return of
}

// A flipped bit, a cut file, garbage and a damaged head are never a result: the result
// is made again, and the file takes it.
func TestDamage(t *testing.T) {
	const n, floats = 30, 50
	p := part("a", floats, true)
	for name, damage := range map[string]func(b []byte) []byte{
		"a bit of each place": func(b []byte) []byte {
			for at := headBytes; at < len(b); at += tagBytes + 4*floats {
				b[at+tagBytes+17] ^= 4
			}
			return b
		},
		"a bit of each key": func(b []byte) []byte {
			for at := headBytes; at < len(b); at += tagBytes + 4*floats {
				b[at+20] ^= 1
			}
			return b
		},
		"a bit of each sum": func(b []byte) []byte {
			for at := headBytes; at < len(b); at += tagBytes + 4*floats {
				b[at] ^= 1
			}
			return b
		},
		"cut":         func(b []byte) []byte { return b[:len(b)/2+5] },
		"cut to head": func(b []byte) []byte { return b[:headBytes] },
		"cut head":    func(b []byte) []byte { return b[:10] },
		"empty":       func(b []byte) []byte { return nil },
		"head":        func(b []byte) []byte { b[44] ^= 1; return b },
		"magic":       func(b []byte) []byte { b[0] = 'x'; return b },
		"garbage": func(b []byte) []byte {
			for i := headBytes; i < len(b); i++ {
				b[i] = byte(i * 7)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := open(t, Options{Dirs: []string{dir}, Frames: n})
			x := s.Shelf(p)
			for i := range n {
				x.Put(key(i), row(i, floats))
			}
			path := s.path(p)
			s.Close()
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o666); err != nil {
				t.Fatal(err)
			}
			s, _ = open(t, Options{Dirs: []string{dir}, Frames: n})
			x = s.Shelf(p)
			got := make([]float32, floats)
			missing := 0
			for i := range n {
				if x.Get(key(i), got) {
					if !slices.Equal(got, row(i, floats)) {
						t.Fatalf("input %d is wrong: %v", i, got[:3])
					}
					continue
				}
				missing++
				x.Put(key(i), row(i, floats))
			}
			if missing == 0 {
				t.Error("no result was missed")
			}
			there := 0
			for i := range n {
				if x.Get(key(i), got) {
					there++
				}
			}
			if there < n-4 && name != "garbage" && name != "a bit of each key" { // whose places look taken by others
				t.Errorf("%d of %d were written anew", there, n)
			}
		})
	}
}

// A file takes no more than the bound, with those of other parts: those are removed
// that nobody has used for long, and what is full takes no more.
func TestBounded(t *testing.T) {
	const floats = 100
	dir := t.TempDir()
	total := func() (n int64) {
		for _, size := range files(t, dir) {
			n += size
		}
		return n
	}
	const bytes = 200 << 10
	s, said := open(t, Options{Dirs: []string{dir}, Bytes: bytes, Frames: 10000})
	x, y := s.Shelf(part("a", floats, true)), s.Shelf(part("b", floats, false))
	kept := map[string]int{}
	got := make([]float32, floats)
	for i := range 2000 {
		x.Put(key(i), row(i, floats))
		y.Put(key(i), row(i, floats))
	}
	for i := range 2000 {
		if x.Get(key(i), got) {
			kept["pictures"]++
		}
		if y.Get(key(i), got) {
			kept["words"]++
		}
	}
	if n := total(); n > bytes || n < bytes*9/10 {
		t.Errorf("the files have %d bytes, the bound is %d", n, bytes)
	}
	if kept["pictures"] < 380 || kept["words"] < 50 {
		t.Errorf("%v are kept", kept)
	}
	if len(*said) != 0 {
		t.Errorf("said %q", *said)
	}
	if n, all := s.o.Fits(part("a", floats, true)); n < kept["pictures"] || n > kept["pictures"]+20 {
		t.Errorf("%d are said to fit, %d are kept", n, kept["pictures"])
	} else if n, _ := (Options{Bytes: all, Frames: 10000}).Fits(part("a", floats, true)); n != 10000 {
		t.Errorf("%d of 10000 fit into what would hold all", n)
	}
	// Another encoder: there is no room while the others are in use.
	first := s
	s, said = open(t, Options{Dirs: []string{dir}, Bytes: bytes})
	z := s.Shelf(part("c", floats, true))
	z.Put(key(1), row(1, floats))
	check(t, z, 1, floats, false)
	if len(*said) != 1 || !strings.Contains((*said)[0], "there is no room") {
		t.Errorf("said %q", *said)
	}
	s.Close()
	first.Close()
	old := time.Now().Add(-2 * stale)
	if err := os.WriteFile(filepath.Join(dir, "123"+temp), make([]byte, 100), 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(filepath.Join(dir, "123"+temp), old, old)
	s, said = open(t, Options{Dirs: []string{dir}, Bytes: bytes})
	z = s.Shelf(part("c", floats, true))
	for i := range 2000 {
		z.Put(key(i), row(i, floats))
	}
	if n := total(); n > bytes || len(*said) > 0 {
		t.Errorf("the files have %d bytes, the bound is %d; said %q", n, bytes, *said)
	}
	if _, err := os.Stat(filepath.Join(dir, "123"+temp)); err == nil {
		t.Error("what a killed process had begun to make is still there")
	}
	// A larger bound is a larger file.
	s.Close()
	s, _ = open(t, Options{Dirs: []string{dir}, Bytes: 2 * bytes})
	z = s.Shelf(part("c", floats, true))
	for i := range 2000 {
		z.Put(key(i), row(i, floats))
	}
	if n := total(); n > 2*bytes || n < bytes*3/2 {
		t.Errorf("the files have %d bytes, the bound is %d", n, 2*bytes)
	}
}

// Where a folder cannot be written to the next one is taken, and where none can,
// memory keeps what it can; that is said once.
func TestFolders(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file") // no folder can be below it, for root neither
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(base, "second")
	s, said := open(t, Options{Dirs: []string{filepath.Join(file, "x"), second}})
	x := s.Shelf(part("a", 8, true))
	x.Put(key(1), row(1, 8))
	check(t, x, 1, 8, true)
	if len(files(t, second)) != 1 || len(*said) != 0 {
		t.Errorf("%v, said %q", files(t, second), *said)
	}
	s, said = open(t, Options{Dirs: []string{filepath.Join(file, "x")}, memory: 2 * 10 * (8*4 + 64)})
	x = s.Shelf(part("a", 8, true))
	s.Shelf(part("b", 8, true))
	for i := range 20 {
		x.Put(key(i), row(i, 8))
	}
	for i := range 20 {
		check(t, x, i, 8, i < 10)
	}
	if len(*said) != 1 || !strings.Contains((*said)[0], "in this worker's memory alone") {
		t.Errorf("said %q", *said)
	}
}

// A file that takes no more (a full disk, a limit) ends the writing, once said.
func TestFull(t *testing.T) {
	s, said := open(t, Options{Dirs: []string{t.TempDir()}})
	x := s.Shelf(part("a", 8, true)).(*shelf)
	x.Put(key(1), row(1, 8))
	read, err := os.Open(x.file.Name()) // which cannot be written to
	if err != nil {
		t.Fatal(err)
	}
	x.file.Close()
	x.file = read
	for i := range 10 {
		x.Put(key(10+i), row(10+i, 8))
	}
	check(t, x, 1, 8, true)
	check(t, x, 10, 8, false)
	if len(*said) != 1 || !strings.Contains((*said)[0], "takes no more") {
		t.Errorf("said %q", *said)
	}
}

// What is dropped is dropped for all that have the file.
func TestDrop(t *testing.T) {
	dir := t.TempDir()
	a, _ := open(t, Options{Dirs: []string{dir}, memory: 1 << 20})
	b, _ := open(t, Options{Dirs: []string{dir}})
	p := part("a", 8, true)
	x, y := a.Shelf(p), b.Shelf(p)
	x.Put(key(1), row(1, 8))
	check(t, y, 1, 8, true)
	x.Drop()
	check(t, x, 1, 8, false)
	check(t, y, 1, 8, false)
	y.Put(key(1), row(1, 8))
	check(t, x, 1, 8, true)
}

// Several stores on one file, filled at once, have nothing but what is right.
func TestTogether(t *testing.T) {
	const n, floats = 300, 64
	dir := t.TempDir()
	var all sync.WaitGroup
	for k := range 4 {
		all.Go(func() {
			s, _ := open(t, Options{Dirs: []string{dir}, Bytes: 64 << 10}) // of which not all fit
			x := s.Shelf(part("a", floats, true))
			got := make([]float32, floats)
			for round := range 4 {
				for j := range n {
					i := (j*(2*k+1) + round) % n
					if !x.Get(key(i), got) {
						x.Put(key(i), row(i, floats))
					} else if !slices.Equal(got, row(i, floats)) {
						t.Errorf("input %d is wrong", i)
						return
					}
				}
			}
			if s.Found == 0 {
				t.Error("nothing was found")
			}
		})
	}
	all.Wait()
	if l := files(t, dir); len(l) != 1 {
		t.Errorf("%v", l)
	}
}

// killed is what a process of TestKilled does until it is killed.
const killed = "VLARING_TEST_FEATURES"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killed); dir != "" {
		s := Open(Options{Dirs: []string{dir}, Bytes: 64 << 20, Pictures: true, memory: 1})
		x := s.Shelf(part("a", 100000, true))
		for i := 0; ; i++ {
			x.Put(key(i), row(i, 100000))
		}
	}
	os.Exit(m.Run())
}

// A process that is killed while it writes leaves a file that the next one uses.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	there := 0
	for range 5 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), killed+"="+dir)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		size := func() (n int64) {
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if i, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ext) {
					n += i.Size()
				}
			}
			return n
		}
		for was := size(); size() < was+1 && size() < 20<<20; {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(3 * time.Millisecond)
		c.Process.Signal(syscall.SIGKILL)
		c.Wait()
		s, _ := open(t, Options{Dirs: []string{dir}, Bytes: 64 << 20})
		x := s.Shelf(part("a", 100000, true))
		got := make([]float32, 100000)
		there = 0
		for i := range 160 {
			if x.Get(key(i), got) {
				if there++; !slices.Equal(got, row(i, 100000)) {
					t.Fatalf("input %d is wrong", i)
				}
			}
		}
		s.Close()
	}
	if there == 0 {
		t.Error("nothing of what was written is there")
	}
}

func FuzzHead(f *testing.F) {
	f.Add(head{places: 5, floats: 7}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHead(strings.NewReader(string(b)))
		if err == nil && (h.places < 1 || h.bytes() <= headBytes) {
			t.Errorf("%+v", h)
		}
	})
}

// A table that others or the disk have left little room for is shared like any other: who
// opens it later neither removes it nor makes one of its own.
func TestSmallTableIsShared(t *testing.T) {
	const floats, bytes = 100, 200 << 10
	dir := t.TempDir()
	other, _ := open(t, Options{Dirs: []string{dir}, Bytes: bytes / 2})
	other.Shelf(part("a", floats, true)) // in use: half of the bound is taken
	s, _ := open(t, Options{Dirs: []string{dir}, Bytes: bytes})
	x := s.Shelf(part("b", floats, true))
	for i := range 50 {
		x.Put(key(i), row(i, floats))
	}
	before := files(t, dir)
	late, said := open(t, Options{Dirs: []string{dir}, Bytes: bytes})
	y := late.Shelf(part("b", floats, true))
	for i := range 50 {
		check(t, y, i, floats, true)
	}
	y.Put(key(77), row(77, floats))
	check(t, x, 77, floats, true)
	s.Close()
	late.Close()
	again, _ := open(t, Options{Dirs: []string{dir}, Bytes: bytes}) // nobody has it now, and there is no more room
	z := again.Shelf(part("b", floats, true))
	check(t, z, 77, floats, true)
	if now := files(t, dir); len(now) != len(before) || len(*said) != 0 {
		t.Errorf("the files are %v, and were %v; said %q", now, before, *said)
	}
}

// Other users of the machine can neither write to what is kept nor have it put there
// beforehand: whoever could, could change what is trained.
func TestOthersCannotWrite(t *testing.T) {
	base := t.TempDir()
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	first, second := filepath.Join(base, "first"), filepath.Join(base, "second")
	if err := os.Mkdir(first, 0o777); err != nil {
		t.Fatal(err)
	}
	s, said := open(t, Options{Dirs: []string{first, second}})
	x := s.Shelf(part("a", 8, true))
	x.Put(key(1), row(1, 8))
	check(t, x, 1, 8, true)
	if len(files(t, first)) != 0 || len(files(t, second)) != 1 || len(*said) != 0 {
		t.Errorf("all can write to the first folder: it has %v, the second one %v; said %q", files(t, first), files(t, second), *said)
	}
	for name := range files(t, second) {
		if i, err := os.Stat(filepath.Join(second, name)); err != nil || i.Mode().Perm()&0o022 != 0 {
			t.Errorf("%s has mode %v (%v)", name, i.Mode(), err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder to another user")
	}
	if err := os.Chmod(first, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(first, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	s, said = open(t, Options{Dirs: []string{first}})
	s.Shelf(part("a", 8, true))
	if len(*said) != 1 || !strings.Contains((*said)[0], "belongs to another user") {
		t.Errorf("of another user's folder it said %q", *said)
	}
}

// A head with numbers whose product is beyond an int64 is none, though its checksum is right.
func TestHeadBeyondBounds(t *testing.T) {
	for _, h := range []head{{floats: 1<<32 - 1, places: 1 << 40}, {floats: 1 << 30, places: 1 << 32}, {floats: 0, places: 1}, {floats: 1, places: 0}} {
		if got, err := decodeHead(strings.NewReader(string(h.encode()))); err == nil {
			t.Errorf("%+v has %d bytes", got, got.bytes())
		}
	}
}
