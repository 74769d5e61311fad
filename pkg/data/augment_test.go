package data

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image/color"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Each change at fixed strengths, beside torchvision's of float pictures and
// Pillow's of bytes (tools/make_augment.py).
func TestAugmentOfTorchvision(t *testing.T) {
	f, err := safetensors.Open("testdata/augment.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tensor := func(name string) ([]int, []float32) {
		t.Helper()
		info, _ := f.Tensor(name)
		x, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Shape, x
	}
	shape, values := tensor("picture")
	img := Image{RGB: make([]byte, len(values)), H: shape[0], W: shape[1]}
	for i, v := range values {
		img.RGB[i] = byte(v)
	}
	for _, name := range f.Names() {
		if name == "picture" {
			continue
		}
		shape, want := tensor(name)
		h, w := shape[1], shape[2]
		l := asItIs
		var a, b, c, d float64
		// What float32 rounds; hues are quotients of differences of that.
		near, edge := 1e-6, 0.0
		word, rest, _ := strings.Cut(name, " ")
		fmt.Sscan(rest, &a, &b, &c, &d)
		switch word {
		case "brightness":
			l.brightness = float32(a)
		case "contrast":
			l.contrast = float32(a)
		case "saturation":
			l.saturation = float32(a)
		case "sharpness":
			l.sharpness = float32(a)
		case "hue":
			l.hue, near = float32(a), 2e-6
		case "all":
			l.brightness, l.contrast, l.saturation, l.hue, l.sharpness, near = 0.85, 1.15, 1.4, -0.04, 1.5, 5e-6
		case "affine": // weights of 11 bits; at the edge torchvision blends with black
			l.angle, l.dx, l.dy, near, edge = a, b, c, 1.0/2048, 1
		case "pillow": // cuts to bytes; its edge is as steep as here
			l.angle, l.dx, l.dy, near = a, b, c, 1.0/255+1.0/2048
		case "crop": // torchvision cuts first and then stretches; Pillow rounds to bytes twice
			l.side = 0.75
			l.x, l.y = placed(32, 24, int(b)), placed(24, 18, int(a))
			if near = 1.0 / 255; h > 18 {
				near, edge = 1e-6, 1
			}
		default:
			t.Fatal(name)
		}
		z, err := newResizer(3, h, w, [3]float32{}, [3]float32{1, 1, 1})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, 3*h*w)
		for range 2 { // the second time with used scratch space
			if err := z.see(got, img, &l); err != nil {
				t.Fatal(err)
			}
		}
		worst, beyond := 0.0, 0
		for i := range got {
			y, x := i/w%h, i%w
			if edge > 0 && word == "crop" && (x == 0 || y == 0 || x == w-1 || y == h-1) {
				continue
			}
			e := math.Abs(float64(got[i]) - float64(want[i]))
			if e > near {
				if beyond++; word == "affine" {
					continue
				}
				t.Errorf("%s: channel %d (%d, %d) is %v, want %v", name, i/(h*w), y, x, got[i], want[i])
				break
			}
			worst = max(worst, e)
		}
		if word == "affine" && beyond > 3*(2*h+2*w) { // no more than the rim of the turned picture
			t.Errorf("%s: %d values of %d differ", name, beyond, len(got))
		}
		t.Logf("%-18s differs by %.2g at most; %d values at the rim", name, worst, beyond)
	}
}

// placed is where a crop of length of n pixels begins at pixel from.
func placed(n, length, from int) uint32 {
	room := uint64((n - length) * cropUnits)
	return uint32((uint64(from*cropUnits)<<32 + room) / (room + 1))
}

// Every crop is inside the picture, the middle one in its middle, and all its
// places are as likely.
func TestCropPlaces(t *testing.T) {
	for _, n := range []int{1, 2, 7, 64, 480} {
		for _, side := range []float64{0.1, math.Sqrt(0.9), 1} {
			for _, place := range []uint32{0, 1, 1 << 31, math.MaxUint32} {
				from, length := crop(n, side, place)
				if from < 0 || length < 1 || from+length > n*cropUnits {
					t.Fatalf("%d pixels, side %v, place %d: from %d on %d", n, side, place, from, length)
				}
				if place == 1<<31 && max(from, n*cropUnits-length-from)-min(from, n*cropUnits-length-from) > 1 {
					t.Errorf("%d pixels, side %v: the middle begins at %d and is %d long", n, side, from, length)
				}
			}
		}
	}
	if from, length := crop(64, 1, 12345); from != 0 || length != 64*cropUnits {
		t.Error("the whole of 64 pixels is", from, length)
	}
}

// Draws lie in their ranges and fill them, differ between epochs and samples, and
// are the same whenever they are asked for.
func TestAugmentDraws(t *testing.T) {
	a := &Augmented{Augment{}.Standard().(Augment), 7}
	a.Translate = 0.1
	in := func(what string, v, lo, hi float64) {
		t.Helper()
		if v < lo || v > hi {
			t.Fatalf("%s is %v, not within %v and %v", what, v, lo, hi)
		}
	}
	var least, most [7]float64
	for i := range uint64(2000) {
		l := a.draw(i%5, i/5, 0)
		if l != a.draw(i%5, i/5, 1) {
			t.Fatal("cameras of a sample have draws of their own")
		}
		if l == a.draw(i%5+1, i/5, 0) || l == a.draw(i%5, i/5+1, 0) {
			t.Fatal("another epoch or sample has the same draws")
		}
		if l.side != math.Sqrt(0.9) {
			t.Fatal("side", l.side)
		}
		for k, x := range []struct{ v, lo, hi float64 }{{float64(l.brightness), 0.8, 1.2}, {float64(l.contrast), 0.8, 1.2}, {float64(l.saturation), 0.5, 1.5},
			{float64(l.hue), -0.05, 0.05}, {float64(l.sharpness), 0.5, 1.5}, {l.angle, -5, 5}, {l.dx, -0.1, 0.1}} {
			in("a draw", x.v, x.lo-1e-7, x.hi+1e-7)
			share := (x.v - x.lo) / (x.hi - x.lo)
			if i == 0 {
				least[k], most[k] = share, share
			}
			least[k], most[k] = min(least[k], share), max(most[k], share)
		}
	}
	for k := range least {
		if least[k] > 0.01 || most[k] < 0.99 {
			t.Errorf("draw %d fills %v to %v of its range", k, least[k], most[k])
		}
	}
	a.Apart = true
	if a.draw(0, 0, 0) == a.draw(0, 0, 1) {
		t.Error("apart: two cameras have the same draws")
	}
	a.Most = 2
	var counts [6]int
	for i := range uint64(3000) {
		l := a.draw(0, i, 0)
		n := 0
		for k, changed := range []bool{l.brightness != 1, l.contrast != 1, l.saturation != 1, l.hue != 0, l.sharpness != 1, l.turned()} {
			if changed {
				n++
				counts[k]++
			}
		}
		if n != 2 {
			t.Fatalf("%d changes at once, want 2", n)
		}
	}
	for k, n := range counts { // 1000 of 3000 each, standard deviation 26
		if n < 870 || n > 1130 {
			t.Errorf("change %d is drawn %d times of 3000, want 1000", k, n)
		}
	}
}

// Training sees a picture as its draw says, the same in all its frames and
// cameras; measuring sees the middle; values are not changed in silence.
func TestCollateAugmented(t *testing.T) {
	file := encodePNG(t, testPicture(20, 20, color.RGBA{200, 90, 30, 255}))
	spec := models.Spec{models.Known(models.View(0, 1), 3, 16, 16), models.Known(models.View(0, 0), 3, 16, 16), models.Known(models.View(1, 0), 3, 16, 16)}
	meta := Meta{Spec: spec, ImageMean: imageMean, ImageStd: imageStd, Augment: &Augmented{Augment{Crop: 0.5, Hue: 0.1}, 3}}
	x := Sample{ID: 4, Epoch: 2, Values: make([]Value, 3)}
	for k := range x.Values {
		x.Values[k].Encoded = file
	}
	batch := func(make func(Meta) (*Collator, error), x Sample) *models.Batch {
		t.Helper()
		c, err := make(meta)
		if err != nil {
			t.Fatal(err)
		}
		b := models.NewBatch(1, spec)
		if err := c.Collate([]Sample{x}, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := batch(NewTrainingCollator, x)
	for k := 1; k < 3; k++ {
		if !reflect.DeepEqual(b.Values[k], b.Values[0]) {
			t.Errorf("picture %d of the sample is seen in another way", k)
		}
	}
	later := x
	later.Epoch = 3
	if reflect.DeepEqual(batch(NewTrainingCollator, later).Values[0], b.Values[0]) {
		t.Error("the next epoch sees the same")
	}
	plain := batch(NewCollator, x)
	if !reflect.DeepEqual(plain, batch(NewCollator, later)) {
		t.Error("measuring depends on the epoch")
	}
	z, _ := newResizer(3, 16, 16, imageMean, imageStd)
	img, err := decodeImage(file)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float32, 3*16*16)
	if err := z.see(want, img, &glance{side: math.Sqrt(0.5), x: 1 << 31, y: 1 << 31, brightness: 1, contrast: 1, saturation: 1, sharpness: 1}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(plain.Values[1].Floats, want) {
		t.Error("measuring does not see the middle")
	}
	// Bytes that predict reads are seen as a picture of the model's size is.
	z, _ = newResizer(3, 20, 20, imageMean, imageStd)
	l, whole := meta.Augment.plain(), make([]float32, 3*20*20)
	want = make([]float32, len(whole))
	if err := errors.Join(z.see(want, img, &l), z.Apply(whole, img)); err != nil {
		t.Fatal(err)
	}
	for i, v := range l.of(whole, []int{3, 20, 20}) {
		if math.Abs(float64(v-want[i])) > 1e-6 {
			t.Fatalf("value %d of bytes is %v, of a picture %v", i, v, want[i])
		}
	}
	x.Values[1] = Value{Image: Image{H: 16, W: 16}, Floats: make([]float32, 3*16*16)}
	c, _ := NewTrainingCollator(meta)
	if err := c.Collate([]Sample{x}, models.NewBatch(1, spec)); err == nil || !strings.Contains(err.Error(), "leave data.augment out") {
		t.Error("values are changed in silence:", err)
	}
	batch(NewCollator, x)
}

// A run that goes on in the middle of an epoch, a rank with other micro-batches
// and a worker that is sent its samples see the same changed pictures.
func TestAugmentedStream(t *testing.T) {
	d, err := Open(of(job.Data{Kind: "tabletop"}, "Episodes", 5, "Augment", Augment{}.Standard()), models.Spec{models.Known(models.Images, 3, 16, 16), models.Known(models.Actions, 0)}, 3, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	order := m.Order(3, 12, 2, true) // an epoch is 20 samples
	local, err := NewLocalFeed(d.Train(), order)
	if err != nil {
		t.Fatal(err)
	}
	sent := Delivered{Get: func(ctx context.Context, name string, _ int64) ([]byte, error) {
		return Deliver(local, 100, order.Micros())(ctx, name)
	}}
	// sum is of micro-batch 3 of steps 2 to 5, as a rank with some of each step's
	// micro-batches sees them from a step on.
	sum := func(feed Feed, r Range) (h [32]byte) {
		t.Helper()
		p, err := NewPrefetcher(feed, m, order.Micro, 2, r)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		all := sha256.New()
		for step := uint64(2); step < 6; step++ {
			b, err := p.Next(context.Background(), step, 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range b.Values {
				all.Write(octets.Append(nil, c.Floats))
			}
		}
		return [32]byte(all.Sum(nil))
	}
	want := sum(local, Range{Lo: 0, Hi: 6})
	for what, got := range map[string][32]byte{"from step 2": sum(local, Range{Start: 2, Lo: 0, Hi: 6}), "another rank": sum(local, Range{Start: 1, Lo: 3, Hi: 4}),
		"not foreseen": sum(local, Range{Start: 2, Lo: 0, Hi: 1}), "delivered": sum(sent, Range{Start: 2, Lo: 2, Hi: 5})} {
		if got != want {
			t.Errorf("%s: the pictures differ", what)
		}
	}
	m.Augment = nil
	if sum(local, Range{Lo: 0, Hi: 6}) == want {
		t.Error("nothing was changed")
	}
}
