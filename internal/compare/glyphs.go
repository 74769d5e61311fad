package compare

import (
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/vlaring/vlaring/internal/safetensors"
)

// Pictures of the shifted-input test: one of four shapes, drawn 8 pixels large
// in a colour of its own on noise, somewhere in the upper left part.
//
//	disc       ring       plus       cross
//	..####..   ########   ...##...   ##....##
//	.######.   #......#   ...##...   .##..##.
//	########   #......#   ...##...   ..####..
const (
	glyphKinds = 4
	glyphSide  = 8
	glyphRoom  = 8 // the least coordinates are 0 … glyphRoom
)

func inGlyph(kind, y, x int) bool {
	dy, dx := 2*y-glyphSide+1, 2*x-glyphSide+1
	switch kind {
	case 0:
		return dy*dy+dx*dx <= (glyphSide+1)*(glyphSide+1)
	case 1:
		return y == 0 || x == 0 || y == glyphSide-1 || x == glyphSide-1
	case 2:
		return dy*dy == 1 || dx*dx == 1
	}
	return (dy-dx)*(dy-dx) <= 4 || (dy+dx)*(dy+dx) <= 4
}

// glyphs returns n pictures [n, 3, S, S] and their kinds as [n, glyphKinds] of
// zeros and ones, moved by shift pixels right and down. It is a pure function.
func glyphs(n, shift int, seed uint64) (images, actions []float32) {
	const pixels = pictureSide * pictureSide
	images, actions = make([]float32, n*3*pixels), make([]float32, n*glyphKinds)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		kind := r.IntN(glyphKinds)
		actions[i*glyphKinds+kind] = 1
		y0, x0 := shift+r.IntN(glyphRoom+1), shift+r.IntN(glyphRoom+1)
		for c := range 3 {
			colour := 0.4 + 0.6*r.Float32()
			plane := images[(i*3+c)*pixels:][:pixels]
			for p := range plane {
				plane[p] = 0.2 * (r.Float32() - 0.5)
			}
			for y := range glyphSide {
				for x := range glyphSide {
					if inGlyph(kind, y, x) {
						plane[(y0+y)*pictureSide+x0+x] += colour
					}
				}
			}
		}
	}
	return images, actions
}

// noise returns n numbers, uniform in [-1, 1).
func noise(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]float32, n)
	for i := range out {
		out[i] = 2*r.Float32() - 1
	}
	return out
}

// writeGlyphs writes what data.kind tensors reads.
func writeGlyphs(path string, images, actions []float32) error {
	n := len(actions) / glyphKinds
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = safetensors.Write(f, []safetensors.Tensor{
		{Name: "images", Shape: []int{n, 3, pictureSide, pictureSide}, Data: images},
		{Name: "actions", Shape: []int{n, glyphKinds}, Data: actions}}, nil)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
