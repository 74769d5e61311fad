package jpeg

import "errors"

// table is a Huffman code, canonical: codes of one length are consecutive.
type table struct {
	fast  [256]uint16 // by the next 8 bits: length<<8 | value; 0: the code is longer
	limit [17]int32   // by length: the first 16-bit prefix behind its codes
	shift [17]int32   // by length: index of its first value minus its first code
	value []byte
}

// newTable builds a table of counts (codes of lengths 1 to 16) and as many values.
func newTable(counts, values []byte) (*table, error) {
	t := &table{value: values}
	code, i := int32(0), 0
	for n := 1; n <= 16; n++ {
		t.shift[n] = int32(i) - code
		for range counts[n-1] {
			if n <= 8 {
				for j := range 1 << (8 - n) {
					if at := int(code)<<(8-n) + j; at < len(t.fast) {
						t.fast[at] = uint16(n)<<8 | uint16(values[i])
					}
				}
			}
			code, i = code+1, i+1
		}
		if code > 1<<n {
			return nil, errors.New("a Huffman table has more codes than fit")
		}
		t.limit[n] = code << (16 - n)
		code <<= 1
	}
	return t, nil
}

// tables reads the segment of a DHT marker into into: DC and AC tables 0 to 3.
func tables(seg []byte, into *[2][4]*table) error {
	for len(seg) > 0 {
		if len(seg) < 17 {
			return errors.New("a segment of Huffman tables has the wrong length")
		}
		class, n, total := seg[0]>>4, seg[0]&15, 0
		for _, k := range seg[1:17] {
			total += int(k)
		}
		if class > 1 || n > 3 || total > 256 || len(seg) < 17+total {
			return errors.New("a damaged Huffman table")
		}
		t, err := newTable(seg[1:17], seg[17:17+total])
		if err != nil {
			return err
		}
		into[class][n] = t
		seg = seg[17+total:]
	}
	return nil
}

// bits reads the coded pixels of a scan, in which 0xff is followed by 0.
type bits struct {
	data []byte
	at   int
	acc  uint64 // the low n bits are next, the highest first
	n    uint
}

var errShort = errors.New("the coded pixels end too early")

// fill reads on to 56 bits or more, or to the next marker.
func (b *bits) fill() {
	for b.n <= 56 && b.at < len(b.data) {
		c := b.data[b.at]
		b.at++
		if c == 0xff {
			if b.at >= len(b.data) || b.data[b.at] != 0 {
				b.at-- // a marker
				return
			}
			b.at++
		}
		b.acc = b.acc<<8 | uint64(c)
		b.n += 8
	}
}

// decode reads one code of t.
func (b *bits) decode(t *table) (byte, error) {
	if b.n < 16 {
		b.fill()
	}
	var next int32 // 16 bits, zeros behind the last
	if b.n >= 16 {
		next = int32(b.acc >> (b.n - 16) & 0xffff)
	} else {
		next = int32(b.acc << (16 - b.n) & 0xffff)
	}
	if f := t.fast[next>>8]; f != 0 && uint(f>>8) <= b.n {
		b.n -= uint(f >> 8)
		return byte(f), nil
	}
	for n := uint(1); n <= 16; n++ {
		if next < t.limit[n] {
			if n > b.n {
				return 0, errShort
			}
			b.n -= n
			return t.value[next>>(16-n)+t.shift[n]], nil
		}
	}
	if b.n < 16 {
		return 0, errShort
	}
	return 0, errors.New("the coded pixels have a code that is in no Huffman table")
}

// take reads n bits, at most 16.
func (b *bits) take(n uint) (int32, error) {
	if b.n < n {
		if b.fill(); b.n < n {
			return 0, errShort
		}
	}
	b.n -= n
	return int32(b.acc >> b.n & (1<<n - 1)), nil
}

// signed reads a number of n bits, of which those with the first bit 0 are negative.
func (b *bits) signed(n uint) (int32, error) {
	v, err := b.take(n)
	if n > 0 && v < 1<<(n-1) {
		v += -1<<n + 1
	}
	return v, err
}

// standard is the segment of the tables of T.81 K.3: for DC 0, DC 1, AC 0 and
// AC 1 the number, 16 counts and the values.
const standard = "\x00" + "\x00\x01\x05\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00" + standardDC +
	"\x01" + "\x00\x03\x01\x01\x01\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00" + standardDC +
	"\x10" + "\x00\x02\x01\x03\x03\x02\x04\x03\x05\x05\x04\x04\x00\x00\x01\x7d" +
	"\x01\x02\x03\x00\x04\x11\x05\x12\x21\x31\x41\x06\x13\x51\x61\x07\x22\x71\x14\x32\x81\x91\xa1\x08\x23\x42\xb1\xc1\x15\x52\xd1\xf0" +
	"\x24\x33\x62\x72\x82\x09\x0a\x16\x17\x18\x19\x1a\x25\x26\x27\x28\x29\x2a\x34\x35\x36\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49" +
	"\x4a\x53\x54\x55\x56\x57\x58\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x83\x84\x85\x86\x87\x88\x89" +
	"\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3\xc4\xc5" +
	"\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xe1\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8" +
	"\xf9\xfa" +
	"\x11" + "\x00\x02\x01\x02\x04\x04\x03\x04\x07\x05\x04\x04\x00\x01\x02\x77" +
	"\x00\x01\x02\x03\x11\x04\x05\x21\x31\x06\x12\x41\x51\x07\x61\x71\x13\x22\x32\x81\x08\x14\x42\x91\xa1\xb1\xc1\x09\x23\x33\x52\xf0" +
	"\x15\x62\x72\xd1\x0a\x16\x24\x34\xe1\x25\xf1\x17\x18\x19\x1a\x26\x27\x28\x29\x2a\x35\x36\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48" +
	"\x49\x4a\x53\x54\x55\x56\x57\x58\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x82\x83\x84\x85\x86\x87" +
	"\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3" +
	"\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf2\xf3\xf4\xf5\xf6\xf7\xf8" +
	"\xf9\xfa"

const standardDC = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"
