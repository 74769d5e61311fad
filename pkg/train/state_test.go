package train

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
)

// However many parts a checkpoint has, together they are its two files, each
// byte once; memory that is used again leaves nothing behind.
func TestParts(t *testing.T) {
	for _, set := range [][]string{{"optimizer.kind=adamw"}, {"optimizer.kind=none"}, {"optimizer.kind=one"}, {"optimizer.kind=three"}, {"optimizer.ema=true"},
		{"optimizer.kind=none", sharded}, {"optimizer.kind=three", sharded}, {"optimizer.ema=true", sharded}} {
		t.Run(strings.Join(set, " "), func(t *testing.T) { testParts(t, set...) })
	}
}

func testParts(t *testing.T, set ...string) {
	s := newSquad(t, set...)
	r := s.rank("a")
	s.form([]int{0, 8}, r)
	s.step([]int{0, 8}, r)
	f, err := r.files()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	for name, v := range map[string]*safetensors.View{ModelFile: f.model, OptimizerFile: f.optimizer} {
		want[name] = make([]byte, v.Size())
		if _, err := v.ReadAt(want[name], 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
	}
	var old []Part
	for _, parts := range []int{1, 2, 3, 7, 64, 100_000} {
		times := map[string][]byte{} // how often each byte is handed out
		for name, b := range want {
			times[name] = make([]byte, len(b))
		}
		some := parts
		if parts > 1000 { // more parts than some files have bytes: look at a few
			some = 50
		}
		for p := range some {
			if old, err = r.Part(p, parts, old); err != nil {
				t.Fatal(err)
			}
			for _, x := range old {
				b := want[x.File]
				if x.Total != int64(len(b)) || x.Offset < 0 || x.Offset+int64(len(x.Data)) > x.Total || !bytes.Equal(x.Data, b[x.Offset:][:len(x.Data)]) {
					t.Fatalf("part %d of %d of %s: %d bytes at %d of %d are not the file's", p, parts, x.File, len(x.Data), x.Offset, x.Total)
				}
				for i := range x.Data {
					times[x.File][x.Offset+int64(i)]++
				}
			}
		}
		for name, n := range times {
			if i := bytes.IndexFunc(n, func(r rune) bool { return r > 1 }); i >= 0 {
				t.Errorf("%d parts of %s have byte %d twice", parts, name, i)
			}
			if i := bytes.IndexByte(n, 0); i >= 0 && some == parts {
				t.Errorf("%d parts of %s lack byte %d", parts, name, i)
			}
		}
	}
}

// Whoever has a checkpoint's files finds the digest of the state that they are
// of, and the checksums that its workers vouch for are of what they hand out.
func TestFilesTellTheirState(t *testing.T) {
	for _, kind := range []string{"kind=adamw", "kind=one", "kind=three", "ema=true"} {
		t.Run(kind, func(t *testing.T) { testFilesTellTheirState(t, kind) })
	}
}

func testFilesTellTheirState(t *testing.T, kind string) {
	s := newSquad(t, "optimizer."+kind)
	r := s.rank("a")
	s.form([]int{0, 8}, r)
	s.step([]int{0, 8}, r)
	layout := LayoutOf(r.params, r.opt.Optimizer.Slots(), false)
	whole, err := r.Part(0, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	digest := func() (string, error) {
		var files [2]*safetensors.File
		for i, p := range whole {
			if files[i], err = safetensors.Read(bytes.NewReader(p.Data), p.Total, p.File); err != nil {
				return "", err
			}
		}
		return layout.Digest(r.CommittedStep(), files[0], files[1])
	}
	if got, err := digest(); err != nil || got != r.Digest() {
		t.Errorf("the files' digest is %s (%v), the state's %s", got, err, r.Digest())
	}
	// The weights' own checksum is what the digest has of them, by any number of threads.
	if want, got := strings.Split(r.Digest(), "-")[1][:8], r.WeightsSum(); got != want {
		t.Errorf("the weights' checksum is %s, in the digest %s", got, want)
	}
	for i, p := range whole {
		p.Data[len(p.Data)-7] ^= 0x40
		if got, err := digest(); err == nil && got == r.Digest() {
			t.Errorf("a flipped bit in file %d is not seen", i)
		}
		p.Data[len(p.Data)-7] ^= 0x40
	}
	for _, parts := range []int{1, 2, 3, 7} {
		sums := make([]string, parts)
		for p := range parts {
			l, err := r.Part(p, parts, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range l {
				h := PartSum()
				h.Write(x.Data)
				sums[p] += fmt.Sprintf("%08x", h.Sum32())
			}
		}
		for p := range parts {
			got, err := r.witnesses(p, parts)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != min(parts, MaxWitnesses) {
				t.Errorf("part %d of %d: %d checksums", p, parts, len(got))
			}
			for k, x := range got {
				if x != sums[(p+k)%parts] {
					t.Errorf("part %d of %d: checksum %d is %s, want %s", p, parts, k, x, sums[(p+k)%parts])
				}
			}
		}
	}
}

// The digest differs wherever the state does: any bit of weights or moments,
// and the step.
func TestDigest(t *testing.T) {
	s := newSquad(t)
	r := s.rank("a")
	s.form([]int{0, 8}, r)
	s.step([]int{0, 8}, r)
	want := r.Digest()
	seen := map[string]string{want: "the state itself"}
	look := func(what string) {
		t.Helper()
		d := r.Digest()
		if was, ok := seen[d]; ok {
			t.Errorf("%s: the digest is that of %s", what, was)
		}
		seen[d] = what
	}
	for name, slab := range map[string][]float32{"weights": r.params.Values(), "first moments": r.slots[0], "second moments": r.slots[1]} {
		for _, i := range []int{0, 1, len(slab) / 2, len(slab) - 1} {
			for bit := range 32 {
				x := slab[i]
				slab[i] = math.Float32frombits(math.Float32bits(x) ^ 1<<bit)
				look(fmt.Sprintf("bit %d of element %d of the %s", bit, i, name))
				slab[i] = x
			}
		}
	}
	r.step++
	look("the next step")
	r.step--
	if got := r.Digest(); got != want {
		t.Errorf("the state is the same again, and the digest is %s, not %s", got, want)
	}
}
