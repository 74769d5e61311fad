package job

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a number of bytes that is written "512MiB" in YAML, or as a whole number.
type Bytes int64

// byteUnits are the names of numbers of bytes, the largest first.
var byteUnits = []struct {
	name string
	of   Bytes
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String is the form of the job file: in the largest unit of which it is a whole number.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && b%u.of == 0 && u.of > 1 {
			return strconv.FormatInt(int64(b/u.of), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalYAML writes the form of the job file.
func (b Bytes) MarshalYAML() (any, error) {
	if s := b.String(); strings.HasSuffix(s, "B") {
		return s, nil
	}
	return int64(b), nil
}

func parseBytes(s string) (Bytes, error) {
	bad := fmt.Errorf("want a number of bytes such as 512MiB or 1GiB, found %q", s)
	number, unit := strings.TrimSpace(s), Bytes(1)
	for _, u := range byteUnits {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(n), u.of
			break
		}
	}
	x, err := strconv.ParseFloat(number, 64)
	if err != nil || !(x >= 0) || x*float64(unit) > 1<<60 {
		return 0, bad
	}
	b := Bytes(x * float64(unit))
	if unit == 1 && float64(b) != x {
		return 0, bad
	}
	return b, nil
}
