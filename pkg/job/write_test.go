package job

import (
	"math"
	"reflect"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// A scalar that is written by hand is the text that the package of YAML makes of it: no
// job's hash moves.
func TestScalars(t *testing.T) {
	byHand := map[reflect.Kind]int{}
	for _, x := range []any{
		true, false, 0, 7, -3, int32(-1), int64(math.MinInt64), uint(3), uint32(4), uint64(math.MaxUint64),
		0.0, math.Copysign(0, -1), 1.0, -2.0, 0.1, 1e-8, 1e21, 123456789.0, 5e-324, math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN(), 1e15, float32(0.1),
		"", "y", "n", "no", "on", "off", "yes", "null", "nan", "inf", "x", "a_b", "e", "o", "none", "vla", "cls", "auto", "_", "/", "true", "false", "nothing", "tabletop", "data/frames", "/data/frames", "mean_std", "a b c d e f", "1e5000", "-leading", "trailing:",
		"infinity", "~", ".nan", "0o17777", "12:30:45", "2001-01-01", "two\nlines", "#comment", "{braces", "[brackets", "*anchor", "&anchor", "!!str tag", "%percent", "___", "______", "//////",
		[]int{1, 2}, Duration(0), Duration(time.Second), Duration(10 * time.Minute), Duration(3*time.Hour + time.Millisecond), Duration(1500), Duration(-7),
		Bytes(0), Bytes(1), Bytes(1 << 10), Bytes(1 << 20), Bytes(1<<40 + 1), Bytes(3 << 30), (*int)(nil), (*float64)(nil), new(float64), new(string), new(Duration),
	} {
		// as a value in a mapping, which is where a job has them
		write := func(n *yaml.Node) string {
			b, err := yaml.Marshal(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: "key"}, n}})
			if err != nil {
				t.Fatalf("%T %v: %v", x, x, err)
			}
			return string(b)
		}
		got := scalar(reflect.ValueOf(x))
		if got == nil {
			continue
		}
		byHand[reflect.TypeOf(x).Kind()]++
		want := new(yaml.Node)
		if err := want.Encode(x); err != nil {
			t.Fatal(err)
		}
		if write(got) != write(want) {
			t.Errorf("%T %v is written as %q, want %q", x, x, write(got), write(want))
		}
	}
	for _, k := range []reflect.Kind{reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float32, reflect.Float64, reflect.String, reflect.Pointer} {
		if byHand[k] < 1 {
			t.Errorf("no %v is written by hand", k)
		}
	}
}
