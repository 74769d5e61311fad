package convert

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// array is what a .npy file holds.
type array struct {
	shape []int
	kind  byte // of numpy: f, i, u or b
	size  int  // bytes of a value
	order binary.ByteOrder
	body  []byte // row-major
}

var npyHead = regexp.MustCompile(`^\s*\{\s*'descr':\s*'([<>|=])([fiub])(\d)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d, ]*)\),?\s*\}\s*$`)

// parseNPY reads the forms 1.0 to 3.0 with numbers in C order.
func parseNPY(b []byte) (a array, err error) {
	rest, ok := bytes.CutPrefix(b, []byte("\x93NUMPY"))
	if !ok || len(rest) < 4 {
		return a, errors.New("it does not begin as a .npy file")
	}
	n, at := int(binary.LittleEndian.Uint16(rest[2:])), 4
	if rest[0] > 1 {
		if len(rest) < 6 {
			return a, errors.New("it is cut off")
		}
		n, at = int(binary.LittleEndian.Uint32(rest[2:])), 6
	}
	if n > len(rest)-at {
		return a, errors.New("it is cut off")
	}
	head := string(rest[at : at+n])
	m := npyHead.FindStringSubmatch(head)
	if m == nil {
		return a, fmt.Errorf("its header is %.120q; numbers are read, and no objects or records", strings.TrimSpace(head))
	}
	if m[4] == "True" {
		return a, errors.New("it is in Fortran order; save numpy.ascontiguousarray of it")
	}
	a.order = binary.LittleEndian
	if m[1] == ">" {
		a.order = binary.BigEndian
	}
	a.kind, a.size, a.body = m[2][0], int(m[3][0]-'0'), rest[at+n:]
	count := 1
	for _, d := range strings.FieldsFunc(m[5], func(r rune) bool { return r == ',' || r == ' ' }) {
		v, err := strconv.Atoi(d)
		if err != nil || v > maxMember || count > maxMember/max(v, 1) {
			return a, fmt.Errorf("its shape is (%s)", m[5])
		}
		a.shape, count = append(a.shape, v), count*v
	}
	if len(a.body) != count*a.size {
		return a, fmt.Errorf("it has %d bytes of values; shape %v of %c%d has %d", len(a.body), a.shape, a.kind, a.size, count*a.size)
	}
	if !strings.Contains("f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1", m[2]+m[3]) {
		return a, fmt.Errorf("its values are %s%s; save it as float32", m[2], m[3])
	}
	return a, nil
}

// picture says that an array is one: bytes [height, width, 3 or 1].
func (a array) picture() bool {
	return a.kind == 'u' && a.size == 1 && len(a.shape) == 3 && (a.shape[2] == 3 || a.shape[2] == 1)
}

// values are the numbers of an array: whole ones and truth values as they are,
// others rounded to float32.
func (a array) values() (v numbers, err error) {
	for i := 0; i < len(a.body); i += a.size {
		var u uint64
		switch b := a.body[i:]; a.size {
		case 1:
			u = uint64(b[0])
		case 2:
			u = uint64(a.order.Uint16(b))
		case 4:
			u = uint64(a.order.Uint32(b))
		default:
			u = a.order.Uint64(b)
		}
		switch {
		case a.kind == 'f' && a.size == 4:
			v.floats = append(v.floats, math.Float32frombits(uint32(u)))
		case a.kind == 'f':
			v.floats = append(v.floats, float32(math.Float64frombits(u)))
		case a.kind == 'i':
			shift := 64 - 8*a.size
			v.whole = append(v.whole, int64(u)<<shift>>shift)
		case u > math.MaxInt64:
			return v, fmt.Errorf("%d does not fit into int64", u)
		default:
			v.whole = append(v.whole, int64(u))
		}
	}
	return v, nil
}
