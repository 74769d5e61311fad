package data

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Augment says how pictures are changed in training, in the words of torchvision's
// RandomResizedCrop, ColorJitter and RandomAffine. The zero value changes nothing.
// In a job file the bare word true is its Standard.
//
// What a picture becomes is a pure function of (seed, epoch, sample), the same for
// all cameras and times of a sample unless Apart: see draw. The order is fixed:
//
//	affine, crop, resize    one resampling              warp.go
//	brightness, contrast, saturation, hue, sharpness    colour.go
//
// Evaluation and prediction see the middle of the picture, of the same size as the
// crop, and no other change.
type Augment struct {
	Crop       float64 `yaml:"crop,omitempty" json:"crop,omitempty"`             // share of the picture's area that is seen, of its shape; 0 and 1: all of it
	Brightness float64 `yaml:"brightness,omitempty" json:"brightness,omitempty"` // b: times 1-b to 1+b
	Contrast   float64 `yaml:"contrast,omitempty" json:"contrast,omitempty"`     // c: 1-c to 1+c times as far from the mean grey
	Saturation float64 `yaml:"saturation,omitempty" json:"saturation,omitempty"` // s: 1-s to 1+s times as far from its grey
	Hue        float64 `yaml:"hue,omitempty" json:"hue,omitempty"`               // turned by up to so much of a whole turn either way
	Sharpness  float64 `yaml:"sharpness,omitempty" json:"sharpness,omitempty"`   // s: 1-s to 1+s times as far from its blur
	Affine     float64 `yaml:"affine,omitempty" json:"affine,omitempty"`         // turned by up to so many degrees either way
	Translate  float64 `yaml:"translate,omitempty" json:"translate,omitempty"`   // moved by up to so much of each side
	Most       int     `yaml:"most,omitempty" json:"most,omitempty"`             // of what stands above but the crop, so many at a time, drawn; 0: all
	Apart      bool    `yaml:"apart,omitempty" json:"apart,omitempty"`           // each camera has draws of its own
}

// Standard is what the bare word true means: what LeRobot and Octo do by default.
func (Augment) Standard() any {
	return Augment{Crop: 0.9, Brightness: 0.2, Contrast: 0.2, Saturation: 0.5, Hue: 0.05, Sharpness: 0.5, Affine: 5}
}

// Changes says whether training changes pictures at random, so that none comes twice. Of
// a crop alone too: where it lies is drawn.
func (a *Augmented) Changes() bool { return a != nil && a.Active() }

// Active says that pictures are changed.
func (a Augment) Active() bool { return a != Augment{} }

// AugmentKeys are the keys of how pictures are changed in training.
type AugmentKeys struct {
	Augment Augment `yaml:"augment,omitempty"`
}

func (k AugmentKeys) augment() Augment { return k.Augment }

func (k AugmentKeys) check(c *job.Checker) {
	a := k.Augment
	if !a.Active() {
		return
	}
	if err := a.check(); err != nil {
		c.Bad("data.augment."+err.key+" data.augment", "%s", err.text)
	}
	c.Unused("data.augment", len(WantsOf(c.Job.Model.Options).Of(models.Image)) > 0, "a model that sees no pictures")
}

// augmentError is what is wrong with a key of an Augment.
type augmentError struct{ key, text string }

func (a Augment) check() *augmentError {
	for _, x := range []struct {
		key     string
		v, most float64
		want    string
	}{
		{"crop", a.Crop, 1, "a share of the area from 0 to 1, such as 0.9"},
		{"brightness", a.Brightness, math.MaxFloat32, "0 or more, such as 0.2"},
		{"contrast", a.Contrast, math.MaxFloat32, "0 or more, such as 0.2"},
		{"saturation", a.Saturation, math.MaxFloat32, "0 or more, such as 0.5"},
		{"hue", a.Hue, 0.5, "0 to 0.5 of a turn, such as 0.05"},
		{"sharpness", a.Sharpness, math.MaxFloat32, "0 or more, such as 0.5"},
		{"affine", a.Affine, 180, "0 to 180 degrees, such as 5"},
		{"translate", a.Translate, 1, "a share of the side from 0 to 1, such as 0.05"},
	} {
		if !(x.v >= 0 && x.v <= x.most) {
			return &augmentError{x.key, fmt.Sprintf("is %v; want %s", x.v, x.want)}
		}
	}
	if a.Crop > 0 && a.Crop < 0.01 {
		return &augmentError{"crop", fmt.Sprintf("is %v: less than a hundredth of the picture; it is a share of the area, such as 0.9", a.Crop)}
	}
	if a.Most < 0 {
		return &augmentError{"most", fmt.Sprintf("is %d; want 0 (all) or more", a.Most)}
	}
	return nil
}

// Augmented is an Augment with what keys its draws; a checkpoint keeps it.
type Augmented struct {
	Augment
	Seed uint64 `json:"seed"` // the job's
}

// glance is how one picture is looked at.
type glance struct {
	side float64 // of what is seen, as a share of the picture's sides
	x, y uint32  // where that lies, of all places that it can have, in 2⁻³²

	angle, dx, dy float64 // then degrees, clockwise, and shares of the sides

	brightness, contrast, saturation, sharpness float32 // factors; 1: as it is
	hue                                         float32 // of a turn
}

// asItIs is the whole picture, plain the middle of it that evaluation sees.
var asItIs = glance{side: 1, brightness: 1, contrast: 1, saturation: 1, sharpness: 1}

func (a *Augmented) plain() glance {
	l := asItIs
	if a != nil && a.Crop > 0 {
		l.side, l.x, l.y = math.Sqrt(a.Crop), 1<<31, 1<<31
	}
	return l
}

// Elements of a sample's stream.
const (
	drawX = iota
	drawY
	drawBrightness
	drawContrast
	drawSaturation
	drawHue
	drawSharpness
	drawAngle
	drawDX
	drawDY
	drawMost // and the following ones
)

// draw is how training looks at the pictures of a sample in an epoch. camera
// counts only where each has draws of its own.
func (a *Augmented) draw(epoch, sample uint64, camera int) glance {
	s := philox.Stream{Seed: a.Seed, Purpose: philox.Augment, Step: epoch, Sample: sample}
	if a.Apart {
		s.Site = uint32(camera)
	}
	l := a.plain()
	if a.Crop > 0 {
		l.x, l.y = s.Uint32(drawX), s.Uint32(drawY)
	}
	// within is uniform from -most to most, and the float64 operations exact or
	// rounded once: the draw has 24 bits.
	within := func(element uint32, most float64) float64 {
		return float64((float64(2*float64(s.Uniform(element))) - 1) * most)
	}
	factor := func(element uint32, most float64) float32 {
		lo := max(1-most, 0)
		return float32(lo + float64(float64(s.Uniform(element))*(1+most-lo)))
	}
	changes := []struct {
		on bool
		do func()
	}{
		{a.Brightness > 0, func() { l.brightness = factor(drawBrightness, a.Brightness) }},
		{a.Contrast > 0, func() { l.contrast = factor(drawContrast, a.Contrast) }},
		{a.Saturation > 0, func() { l.saturation = factor(drawSaturation, a.Saturation) }},
		{a.Hue > 0, func() { l.hue = float32(within(drawHue, a.Hue)) }},
		{a.Sharpness > 0, func() { l.sharpness = factor(drawSharpness, a.Sharpness) }},
		{a.Affine > 0 || a.Translate > 0, func() {
			l.angle, l.dx, l.dy = within(drawAngle, a.Affine), within(drawDX, a.Translate), within(drawDY, a.Translate)
		}},
	}
	left := 0
	for _, c := range changes {
		if c.on {
			left++
		}
	}
	need := left
	if a.Most > 0 {
		need = min(a.Most, left)
	}
	for i, c := range changes { // each subset of that many is as likely
		if !c.on {
			continue
		}
		if s.Intn(uint32(drawMost+i), left) < need {
			need--
			c.do()
		}
		left--
	}
	return l
}

// errGiven says that values cannot be augmented.
var errGiven = errors.New("pictures that are given as values are not changed in training: leave data.augment out, or give them as PNG, JPEG or bytes")

// String is what is done, in words.
func (a *Augmented) String() string {
	var in []string
	if a.Crop > 0 {
		in = append(in, fmt.Sprintf("the middle %g %% of the area, a random %g %% in training", 100*a.Crop, 100*a.Crop))
	}
	for _, x := range []struct {
		v    float64
		what string
	}{{a.Brightness, "brightness"}, {a.Contrast, "contrast"}, {a.Saturation, "saturation"}, {a.Hue, "hue"}, {a.Sharpness, "sharpness"}, {a.Affine, "degrees"}, {a.Translate, "of a side"}} {
		if x.v > 0 {
			in = append(in, fmt.Sprintf("±%g %s", x.v, x.what))
		}
	}
	if a.Most > 0 {
		in = append(in, fmt.Sprintf("%d of these at a time", a.Most))
	}
	if a.Apart {
		in = append(in, "each camera by itself")
	}
	return strings.Join(in, ", ")
}
