package tabletop

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Our series agree with the library's to 1e-12, over their whole range.
func TestRealFunctions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < 20000; i++ {
		a := (r.Float64() - 0.5) * 8
		s, c := sincos(a)
		if math.Abs(s-math.Sin(a)) > 1e-12 || math.Abs(c-math.Cos(a)) > 1e-12 {
			t.Fatalf("sincos(%v) = %v, %v; want %v, %v", a, s, c, math.Sin(a), math.Cos(a))
		}
		y, x := r.NormFloat64(), r.NormFloat64()
		if d := math.Abs(atan2(y, x) - math.Atan2(y, x)); d > 1e-12 {
			t.Fatalf("atan2(%v, %v) is off by %g", y, x, d)
		}
	}
	for _, p := range [][2]float64{{0, 0}, {0, 1}, {0, -1}, {1, 0}, {-1, 0}, {1, 1}, {-1, -1}} {
		if d := math.Abs(atan2(p[0], p[1]) - math.Atan2(p[0], p[1])); d > 1e-12 {
			t.Errorf("atan2(%v) is off by %g", p, d)
		}
	}
	for _, f := range [][3]vec{frame(0, 0, 0), frame(0.3, -0.2, 1.1), frame(-1, 0.5, -3)} {
		for i := range f {
			for j := range f {
				want := 0.0
				if i == j {
					want = 1
				}
				if math.Abs(f[i].dot(f[j])-want) > 1e-12 {
					t.Errorf("axes %d and %d: dot %v", i, j, f[i].dot(f[j]))
				}
			}
		}
	}
}

// Pixels, words and actions are the same bits wherever this test runs: on any
// CPU, and with GOAMD64=v3 or GOARCH=arm64, where a compiler may fuse. A
// changed hash means a changed recipe: raise Version.
func TestSameBitsEverywhere(t *testing.T) {
	for scene, want := range map[Scene]string{
		Cluttered: "d9fa524977e199e4b88e34af6a07ce7050608527e47d72aae438724b4d819307",
		Simple:    "87b43a659515f9bb8885f712aace7d9e44bd4341a5d113095d010953053dfed7",
	} {
		h := sha256.New()
		camera, pix := NewCamera(48), make([]byte, 48*48*3)
		for id := uint64(0); id < 60; id++ {
			e := scene.NewEpisode(7, id)
			for k := 0; k < Frames; k++ {
				f := e.Frame(k)
				f.Render(camera, pix)
				h.Write(pix)
				h.Write([]byte(f.Text))
				for _, a := range f.Expert() {
					binary.Write(h, binary.LittleEndian, math.Float64bits(a))
				}
			}
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("%s: hash of 240 frames is %s, want %s", scene, got, want)
		}
	}
}

func TestChancesAddUp(t *testing.T) {
	for id := uint64(0); id < 100; id++ {
		e := Scene(id&1).NewEpisode(3, id)
		w := e.scene.Weighted(e.home)
		sum, found := 0.0, false
		for _, c := range w {
			sum += c.P
			found = found || c.Task == e.Task
			if c.Task.A == c.Task.B {
				t.Fatal("a task relates an object to itself")
			}
		}
		if math.Abs(sum-1) > 1e-9 || !found {
			t.Fatalf("episode %d: chances add up to %v; own task among them: %v", id, sum, found)
		}
	}
}

// Every instruction is within the vocabulary and the length, and names its
// objects unambiguously: no two objects share both colour and shape.
func TestInstructions(t *testing.T) {
	for _, scene := range []Scene{Cluttered, Simple} {
		t.Run(scene.String(), func(t *testing.T) { testInstructions(t, scene) })
	}
}

func testInstructions(t *testing.T, scene Scene) {
	words := scene.Words()
	if !slices.IsSorted(words) {
		t.Error("words are not sorted")
	}
	longest, used := 0, map[string]bool{}
	for id := uint64(0); id < 20000; id++ {
		e := scene.NewEpisode(5, id)
		f := strings.Fields(e.Text)
		longest = max(longest, len(f))
		for _, w := range f {
			used[w] = true
			if _, ok := slices.BinarySearch(words, w); !ok {
				t.Fatalf("%q is not in the vocabulary", w)
			}
		}
		seen := map[[2]int]bool{}
		for _, o := range e.home {
			k := [2]int{int(o.Shape), int(o.Colour)}
			if seen[k] {
				t.Fatalf("episode %d has two alike objects", id)
			}
			seen[k] = true
		}
	}
	if longest != scene.MaxWords() {
		t.Errorf("the longest of 20000 instructions has %d words, MaxWords is %d", longest, scene.MaxWords())
	}
	if len(used) != len(words) {
		t.Errorf("%d words were used of %d", len(used), len(words))
	}
}

// The picture shows the state: an object, its colour and the gripper leave
// their marks, at any size, and an action is what it says it may be.
func TestRenderAndLimits(t *testing.T) {
	for _, size := range []int{16, 33, 64, 224} {
		camera, pix := NewCamera(size), make([]byte, size*size*3)
		f := Cluttered.NewEpisode(1, 3).Frame(1)
		f.Render(camera, pix)
		first := slices.Clone(pix)
		f.Gripper.X += 0.05
		f.Render(camera, pix)
		if slices.Equal(first, pix) {
			t.Errorf("size %d: moving the gripper does not show", size)
		}
		f.Gripper.X -= 0.05
		f.Objects[0].Colour = (f.Objects[0].Colour + 1) % colours
		f.Render(camera, pix)
		if slices.Equal(first, pix) {
			t.Errorf("size %d: recolouring an object does not show", size)
		}
	}
	for id := uint64(0); id < 500; id++ {
		f := Cluttered.NewEpisode(2, id).Frame(int(id % Frames))
		a := f.Expert()
		if (vec{a[0], a[1], a[2]}).length() > maxMove*(1+1e-9) || a[6] != 0 && a[6] != 1 {
			t.Fatalf("episode %d: action %v", id, a)
		}
		for _, v := range a[3:6] {
			if math.Abs(v) > maxTurn {
				t.Fatalf("episode %d: action %v", id, a)
			}
		}
	}
}

// Outlines, and what a camera keeps, only save work: a picture is that of every
// ray asking every body.
func TestOutlinesHoldTheirBodies(t *testing.T) {
	for _, scene := range []Scene{Cluttered, Simple} {
		for id := uint64(0); id < 60; id++ {
			size := []int{16, 32, 37, keptGloss + 1}[id%4]
			c, pix := NewCamera(size), make([]byte, size*size*3)
			f := scene.NewEpisode(4, id).Frame(int(id / 4 % Frames))
			f.Render(c, pix)
			bodies := f.bodies(new([maxBodies]body), c.eye)
			var shadows []shadow
			for i := range bodies {
				shadows = append(shadows, shadow{span{0, 1}, &bodies[i]})
			}
			l := line{t: make([]float64, 1), face: make([]*face, 1), own: make([]face, 1)}
			one := Camera{columns: make([]vec, 1), rows: []vec{{}}}
			for p := range size * size {
				var sum rgb
				for s := range samples * samples {
					d := c.ray(p%size*samples+s%samples, p/size*samples+s/samples)
					l.t[0], l.face[0], l.own[0], one.columns[0] = math.Inf(1), nil, face{}, d
					for i := range bodies {
						l.cross(&one, 0, span{0, 1}, &bodies[i])
					}
					var seen rgb
					switch {
					case l.t[0] < math.Inf(1):
						seen = l.face[0].shine(halfway(d))
					case scene == Simple:
						seen = grey
					default:
						seen = f.backdrop(c.eye, d, 0, shadows)
					}
					sum = sum.add(seen)
				}
				if want := sum.pixel(); [3]byte(pix[p*3:]) != want {
					t.Fatalf("%s, size %d, episode %d, pixel %d: %v with outlines, %v without", scene, size, id, p, pix[p*3:p*3+3], want)
				}
			}
		}
	}
}

func BenchmarkRender64(b *testing.B) {
	camera, pix := NewCamera(64), make([]byte, 64*64*3)
	f := Cluttered.NewEpisode(1, 3).Frame(0)
	for b.Loop() {
		f.Render(camera, pix)
	}
}

func BenchmarkRenderSimple32(b *testing.B) {
	camera, pix := NewCamera(32), make([]byte, 32*32*3)
	var frames []*Frame
	for id := range uint64(16) {
		frames = append(frames, Simple.NewEpisode(1, id).Frame(int(id%Frames)))
	}
	i := 0
	for b.Loop() {
		frames[i%len(frames)].Render(camera, pix)
		i++
	}
}
