package convert

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// A few bytes of a shard that stand for gigabytes, by a header that lies, by packing, by
// members without end, are refused by name before memory is taken for more than a sample may have.
func TestTarBombs(t *testing.T) {
	was := maxSample
	maxSample = 8 << 20
	defer func() { maxSample = was }()
	zeros := make([]byte, 64<<20)
	header := func(name string, size int64) []byte {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o444}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var many []member
	for i := range maxParts + 1 {
		many = append(many, member{fmt.Sprintf("a.%d", i), nil})
	}
	thin := func(n int) (l []member) { // each within its own bound
		for i := range n {
			l = append(l, member{fmt.Sprintf("a.%d.npy", i), zeros[:1<<20]})
		}
		return l
	}
	for name, c := range map[string]struct {
		shard []byte
		want  string
	}{
		"a member of 2^62 bytes":          {header("a.npy", 1<<62), "it has 4611686018427387904 bytes; want at most 268435456"},
		"one as large as a member may be": {header("a.npy", maxMember), "the sample has more than 8388608"},
		"a packed member":                 {shardOf(t, member{"a.json.gz", zipped(zeros)}), "it unpacks to more than 8388608 bytes"},
		"a packed shard of one sample":    {zipped(shardOf(t, thin(9)...)), "the sample has more than 8388608"},
		"packed members, one by one small": {shardOf(t, member{"a.0.json.gz", zipped(zeros[:5<<20])}, member{"a.1.json.gz", zipped(zeros[:5<<20])}),
			"it unpacks to more than 3145728 bytes"},
		"members without end": {zipped(shardOf(t, many...)), "it has more than 1024 members"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := shard(context.Background(), "-", bytes.NewReader(c.shard), func(int64) {}, func(sample) error { return nil })
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "standard input: sample a") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 80<<20 {
			t.Errorf("%s: %d bytes were taken to refuse %d", name, took, len(c.shard))
		}
	}
	n := 0
	_, err := shard(context.Background(), "-", bytes.NewReader(shardOf(t, thin(8)...)), func(int64) {}, func(s sample) error { n = len(s.parts); return nil })
	if err != nil || n != 8 {
		t.Errorf("a sample of as much as one may have: %d members, %v", n, err)
	}
	_, err = shard(context.Background(), "-", io.LimitReader(bytes.NewReader(shardOf(t, thin(2)...)), 1<<20), func(int64) {}, func(sample) error { return nil })
	if err == nil {
		t.Error("a shard that is cut off is taken")
	}
}
