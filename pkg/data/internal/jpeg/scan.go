package jpeg

import (
	"errors"
	"fmt"
)

// zigzag is the place, row by row, of the coefficients in the order of the file.
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// block is 8×8 coefficients or samples, row by row.
type block [64]int32

// canvas is a component while it is decoded.
type canvas struct {
	h, v          int // blocks in a unit of all components
	across, down  int // blocks that hold picture: what a scan of this component alone has
	stride, lines int // blocks that are there, in whole units
	quant         *[64]int32
	coef          []block // progressive: all of them
	pix           []byte  // else: [8·lines, 8·stride] samples
	last          int32   // DC of the block before
	scanned       bool
}

// decoder is one decoding of a file.
type decoder struct {
	head   *Head
	state  state
	canvas []canvas
	bits   bits
	skip   int32 // progressive: blocks that the present run of ends still covers
	b      block
}

var errBlock = errors.New("the coded pixels have more than 64 coefficients in a block")

// planes decodes the coded samples of all components.
func (j *Head) planes(file []byte) ([]plane, error) {
	d := &decoder{head: j, state: j.state}
	hm, vm := 1, 1
	if len(j.comp) > 1 { // one component has no units
		for _, c := range j.comp {
			hm, vm = max(hm, int(c.h)), max(vm, int(c.v))
		}
	}
	unitsX, unitsY := ceil(j.W, 8*hm), ceil(j.H, 8*vm)
	for _, c := range j.comp {
		k := canvas{h: int(c.h), v: int(c.v)}
		if len(j.comp) == 1 {
			k.h, k.v = 1, 1
		}
		k.across, k.down = ceil(ceil(j.W*k.h, hm), 8), ceil(ceil(j.H*k.v, vm), 8)
		k.stride, k.lines = unitsX*k.h, unitsY*k.v
		if j.progressive() {
			k.coef = make([]block, k.stride*k.lines)
		} else {
			k.pix = make([]byte, 64*k.stride*k.lines)
		}
		d.canvas = append(d.canvas, k)
	}
	for at := j.scan; ; {
		marker, seg, after, err := next(file, at)
		if err != nil {
			return nil, err
		}
		switch {
		case marker == mEOI:
			return d.finish(hm, vm)
		case marker == mSOS:
			s, err := j.readScan(&d.state, seg)
			if err != nil {
				return nil, err
			}
			d.bits = bits{data: file, at: after}
			if err := d.scan(s, unitsX, unitsY); err != nil {
				return nil, err
			}
			after = d.bits.at
		case marker >= mSOF0 && marker <= mSOF2:
			return nil, errors.New("a second frame header comes after a scan")
		default:
			if err := d.state.set(marker, seg); err != nil {
				return nil, err
			}
		}
		at = after
	}
}

func ceil(a, b int) int { return (a + b - 1) / b }

// scan decodes one scan. Scans of one component go through its own blocks, those
// of several through units of h×v blocks of each.
func (d *decoder) scan(s *scanHead, unitsX, unitsY int) error {
	for _, sc := range s.comp {
		if c := &d.canvas[sc.index]; !c.scanned {
			c.quant, c.scanned = d.state.quant[d.head.comp[sc.index].quant], true
		}
	}
	one := len(s.comp) == 1
	if one {
		unitsX, unitsY = d.canvas[s.comp[0].index].across, d.canvas[s.comp[0].index].down
	}
	d.restart()
	for n := range unitsX * unitsY {
		if d.state.restart > 0 && n > 0 && n%d.state.restart == 0 {
			if err := d.marker(mRST0 + byte(n/d.state.restart-1)&7); err != nil {
				return err
			}
			d.restart()
		}
		ux, uy := n%unitsX, n/unitsX
		for _, sc := range s.comp {
			c := &d.canvas[sc.index]
			h, v := c.h, c.v
			if one {
				h, v = 1, 1
			}
			for i := range h * v {
				if err := d.block(s, sc, c, ux*h+i%h, uy*v+i/h); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// restart forgets what goes from block to block.
func (d *decoder) restart() {
	d.skip = 0
	for i := range d.canvas {
		d.canvas[i].last = 0
	}
}

// marker goes on behind the marker m, which must be the next one. As in libjpeg
// bytes between the pixels and it are passed over; some cameras pad with them.
func (d *decoder) marker(m byte) error {
	data, at := d.bits.data, d.bits.at
	for at < len(data)-1 && (data[at] != 0xff || data[at+1] == 0 || data[at+1] == 0xff) {
		at++
	}
	if at >= len(data)-1 || data[at+1] != m {
		return fmt.Errorf("the restart marker %02x is missing at byte %d", m, at)
	}
	d.bits = bits{data: data, at: at + 2}
	return nil
}

// block decodes what the scan has of the block at x, y.
func (d *decoder) block(s *scanHead, sc scanComponent, c *canvas, x, y int) error {
	if !d.head.progressive() {
		d.b = block{}
		if err := d.sequential(sc, c); err != nil {
			return err
		}
		c.put(&d.b, x, y)
		return nil
	}
	b := &c.coef[y*c.stride+x]
	switch {
	case s.from == 0 && s.before == 0:
		err := d.dc(sc.dc, c)
		b[0] = c.last << s.left
		return err
	case s.from == 0:
		v, err := d.bits.take(1)
		b[0] |= v << s.left
		return err
	case s.before == 0:
		return d.acFirst(s, sc.ac, b)
	}
	return d.acAgain(s, sc.ac, b)
}

// dc adds the coded difference to the component's last DC.
func (d *decoder) dc(t *table, c *canvas) error {
	n, err := d.bits.decode(t)
	if err != nil {
		return err
	}
	if n > 15 {
		return errors.New("the coded pixels have a difference of more than 15 bits")
	}
	v, err := d.bits.signed(uint(n))
	c.last = int32(int16(c.last + v))
	return err
}

func (d *decoder) sequential(sc scanComponent, c *canvas) error {
	if err := d.dc(sc.dc, c); err != nil {
		return err
	}
	d.b[0] = c.last * c.quant[0]
	for k := 1; k < 64; k++ {
		rs, err := d.bits.decode(sc.ac)
		if err != nil {
			return err
		}
		run, n := int(rs>>4), uint(rs&15)
		if n == 0 {
			if run < 15 {
				break
			}
			k += 15
			continue
		}
		if k += run; k > 63 {
			return errBlock
		}
		v, err := d.bits.signed(n)
		if err != nil {
			return err
		}
		d.b[zigzag[k]] = v * c.quant[k]
	}
	return nil
}

// acFirst reads the coefficients s.from to s.to but for their last s.left bits.
func (d *decoder) acFirst(s *scanHead, t *table, b *block) error {
	if d.skip > 0 {
		d.skip--
		return nil
	}
	for k := s.from; k <= s.to; k++ {
		rs, err := d.bits.decode(t)
		if err != nil {
			return err
		}
		run, n := int(rs>>4), uint(rs&15)
		if n == 0 {
			if run < 15 {
				return d.ends(uint(run), -1)
			}
			k += 15
			continue
		}
		if k += run; k > 63 {
			return errBlock
		}
		v, err := d.bits.signed(n)
		if err != nil {
			return err
		}
		b[zigzag[k]] = v << s.left
	}
	return nil
}

// ends reads how many blocks have nothing more; by is added, for this block.
func (d *decoder) ends(n uint, by int32) error {
	v, err := d.bits.take(n)
	d.skip = 1<<n + v + by
	return err
}

// acAgain adds one bit to coefficients that are known and finds new ones.
func (d *decoder) acAgain(s *scanHead, t *table, b *block) error {
	k, bit := s.from, int32(1)<<s.left
	for d.skip == 0 && k <= s.to {
		rs, err := d.bits.decode(t)
		if err != nil {
			return err
		}
		run, value := int(rs>>4), int32(0)
		switch rs & 15 {
		case 0:
			if run < 15 {
				if err := d.ends(uint(run), 0); err != nil {
					return err
				}
				continue
			}
		case 1:
			v, err := d.bits.take(1)
			if err != nil {
				return err
			}
			value = (2*v - 1) * bit
		default:
			return errors.New("the coded pixels have a new coefficient of more than one bit")
		}
		if k, err = d.refine(s, b, k, run); err != nil {
			return err
		}
		if value != 0 {
			if k > s.to {
				return errBlock
			}
			b[zigzag[k]] = value
		}
		k++
	}
	if d.skip > 0 {
		d.skip--
		_, err := d.refine(s, b, k, 64)
		return err
	}
	return nil
}

// refine adds a bit to each coefficient that is not zero, from k until run zeros
// are passed, and returns the place of the zero after those, or s.to + 1.
func (d *decoder) refine(s *scanHead, b *block, k, run int) (int, error) {
	bit := int32(1) << s.left
	for ; k <= s.to; k++ {
		c := &b[zigzag[k]]
		if *c == 0 {
			if run == 0 {
				break
			}
			run--
			continue
		}
		v, err := d.bits.take(1)
		if err != nil {
			return k, err
		}
		if v != 0 && *c&bit == 0 {
			if *c > 0 {
				*c += bit
			} else {
				*c -= bit
			}
		}
	}
	return k, nil
}

// put transforms the coefficients b and writes the samples of the block at x, y.
func (c *canvas) put(b *block, x, y int) {
	w := 8 * c.stride
	inverse(b, c.pix[8*y*w+8*x:], w)
}

// finish makes the planes, after the last scan.
func (d *decoder) finish(hm, vm int) ([]plane, error) {
	var out []plane
	for i := range d.canvas {
		c := &d.canvas[i]
		if !c.scanned {
			return nil, fmt.Errorf("no scan has the component %d", d.head.comp[i].id)
		}
		if c.coef != nil {
			c.pix = make([]byte, 64*len(c.coef))
			for n := range c.coef {
				b := &c.coef[n]
				for k, z := range zigzag {
					b[z] *= c.quant[k]
				}
				c.put(b, n%c.stride, n/c.stride)
			}
		}
		out = append(out, newPlane(c.pix, 8*c.stride, d.head.W, d.head.H, hm/c.h, vm/c.v))
	}
	return out, nil
}
