package data

import (
	"image"
	"image/color"
	"slices"
)

// Photo makes a picture again of what a model sees: x is one feature of pictures of a
// batch, of that shape [C, H, W], as a Collator of meta has made it. Of other than
// three channels the first are shown, a single one as grey. Values that the data
// gives as they are, and that are not those of a picture, are stretched to one.
func Photo(meta Meta, shape []int, x []float32) image.Image {
	c, h, w := shape[0], shape[1], shape[2]
	mean, std := meta.ImageMean, meta.ImageStd
	if std == [3]float32{} { // nobody has said
		mean, std = imageMean, imageStd
	}
	if lo, hi := slices.Min(x), slices.Max(x); std == [3]float32{1, 1, 1} && mean == [3]float32{} && (lo < 0 || hi > 1) && hi > lo {
		by := 1 / (hi - lo)
		for i := range mean {
			mean[i], std[i] = float32(-lo*by), by
		}
	}
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		var px [3]uint8
		for ch := range px {
			of := min(ch, c-1)
			v := float32(x[of*h*w+i]*std[of]) + mean[of]
			px[ch] = uint8(float32(min(max(v, 0), 1)*255) + 0.5)
		}
		m.SetRGBA(i%w, i/w, color.RGBA{px[0], px[1], px[2], 255})
	}
	return m
}
