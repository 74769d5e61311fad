package tabletop

import (
	"math"
	"testing"
)

// What a camera draws of a thing lies about where it projects it to: the pixels that
// another place of an object changes have their middle where its middle goes.
func TestProject(t *testing.T) {
	const size = 96
	for name, c := range map[string]*Camera{"front": NewCamera(size), "side": NewSideCamera(size)} {
		for _, at := range [][2]float64{{0.32, -0.1}, {0.4, 0}, {0.5, 0.12}} {
			draw := func(objects ...object) []byte {
				pix := make([]byte, 3*size*size)
				(&Frame{Objects: objects, Gripper: Gripper{X: 0.68, Y: -0.3, Z: 0.4, Open: true, Held: -1}, scene: Simple}).Render(c, pix)
				return pix
			}
			it := object{Shape: ball, Colour: red, X: at[0], Y: at[1]}
			with, without := draw(it), draw()
			var x, y, n float64
			for i := range size * size {
				if int(with[3*i])-int(with[3*i+1]) > 25 && with[3*i+1] != without[3*i+1] { // red, and not its grey shadow
					x, y, n = x+float64(i%size)+0.5, y+float64(i/size)+0.5, n+1
				}
			}
			right, down, before := c.Project(it.X, it.Y, it.half().z)
			if !before || n < 10 || math.Hypot(x/n-right*size, y/n-down*size) > 1.5 {
				t.Errorf("%s: a ball at %v is drawn about %.1f, %.1f (%v pixels), and projected to %.1f, %.1f (%v)", name, at, x/n, y/n, n, right*size, down*size, before)
			}
		}
		if _, _, before := c.Project(c.eye.x-c.forward.x, c.eye.y-c.forward.y, c.eye.z-c.forward.z); before {
			t.Errorf("%s: what is behind it is before it", name)
		}
	}
}
