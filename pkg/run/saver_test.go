package run

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// member is a worker's end of the bulk transfer.
type member struct {
	blobs bulk.Blobs
	name  string
}

// stuck is a worker that is lost in the middle of its part: what is read
// beyond its first half never comes.
type stuck struct {
	r     *bytes.Reader
	at    int64
	once  sync.Once
	begun chan struct{} // closed when the first read is stuck
	ended chan struct{}
}

func (s *stuck) ReadAt(p []byte, off int64) (int, error) {
	if off < s.at {
		return s.r.ReadAt(p, off)
	}
	s.once.Do(func() { close(s.begun) })
	<-s.ended
	return 0, io.ErrUnexpectedEOF
}

// A worker that is lost while its part of a checkpoint is fetched ends the
// save at once: nothing of it is left, what was stored before verifies, and
// the same step is stored from whoever is there.
func TestWorkerLostWhileSaving(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	net := bulk.NewMemory()
	join := func(name string) member { return member{net.Join(name), name} }
	coord, a, b, c := join(cluster.CoordinatorName), join("a"), join("b"), join("c")

	dir := filepath.Join(t.TempDir(), "run")
	j, err := train.Kinds().Load("testdata/small.yaml", []string{"checkpoint={every: 5, keep: 1}"})
	if err != nil {
		t.Fatal(err)
	}
	d := newDirectory(&Options{Job: j, Dir: dir})
	if err := d.open(false); err != nil {
		t.Fatal(err)
	}
	defer d.close()
	losses := newLosses(5)
	v := voice{quiet{}, zap.NewNop()}
	r := &saver{job: j, dir: d, voice: v, blobs: coord.blobs, mean: losses.mean, offers: &offers{}}
	r.eval = &evaluator{job: j, dir: d, voice: v, retain: r.retain}
	if err := r.eval.open(ctx, 0); err != nil {
		t.Fatal(err)
	}
	defer r.eval.finish(false)

	// A state of 12 MiB, cut as workers cut it.
	ps := tensor.NewParams()
	ps.Add("w", 1<<20)
	ps.Seal()
	defer ps.Close()
	r.layout = train.LayoutOf(ps, train.Adam{}.Slots(), false)
	states := map[int]map[string][]byte{}
	state := func(step int) map[string][]byte {
		if states[step] != nil {
			return states[step]
		}
		x := make([]float32, 1<<20)
		x[len(x)-1] = float32(step)
		out := map[string][]byte{}
		for _, name := range []string{train.ModelFile, train.OptimizerFile} {
			var buf bytes.Buffer
			tensors := []safetensors.Tensor{{Name: "w", Shape: []int{len(x)}, Data: x}}
			if name == train.OptimizerFile {
				tensors[0].Name = "exp_avg.w"
				tensors = append(tensors, safetensors.Tensor{Name: "exp_avg_sq.w", Shape: []int{len(x)}, Data: x})
			}
			if err := safetensors.Write(&buf, tensors, nil); err != nil {
				t.Fatal(err)
			}
			out[name] = buf.Bytes()
		}
		states[step] = out
		return out
	}
	offer := func(step int, whole map[string][]byte, wrap func([]byte) io.ReaderAt, members ...member) (parts []*cluster.Offer) {
		var files []*safetensors.File
		for _, name := range []string{train.ModelFile, train.OptimizerFile} {
			f, err := safetensors.Read(bytes.NewReader(whole[name]), int64(len(whole[name])), name)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		digest, err := r.layout.Digest(uint64(step), files[0], files[1])
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range members {
			o := &cluster.Offer{Worker: m.name, Step: uint64(step), Part: i, Parts: len(members), Digest: digest}
			for k := range min(len(members), train.MaxWitnesses) {
				text, j := "", (i+k)%len(members)
				for _, name := range []string{train.ModelFile, train.OptimizerFile} {
					all, h := whole[name], train.PartSum()
					h.Write(all[len(all)*j/len(members) : len(all)*(j+1)/len(members)])
					text += fmt.Sprintf("%08x", h.Sum32())
				}
				o.Sums = append(o.Sums, text)
			}
			for _, name := range []string{train.ModelFile, train.OptimizerFile} {
				all := whole[name]
				lo, hi := len(all)*i/len(members), len(all)*(i+1)/len(members)
				sum := sha256.Sum256(all[lo:hi])
				blob := cluster.Blob{Name: "snapshot/" + name, Size: int64(hi - lo), SHA256: hex.EncodeToString(sum[:])}
				var from io.ReaderAt = bytes.NewReader(all[lo:hi])
				if wrap != nil && i == len(members)-1 {
					from = wrap(all[lo:hi])
				}
				m.blobs.Withdraw(blob.Name)
				if err := m.blobs.Offer(blob.Name, blob.Size, blob.SHA256, from); err != nil {
					t.Fatal(err)
				}
				o.Files = append(o.Files, cluster.Piece{File: name, Offset: int64(lo), Total: int64(len(all)), Blob: blob})
			}
			parts = append(parts, o)
		}
		return parts
	}
	members := func(names ...string) (l []cluster.Member) {
		for _, n := range names {
			l = append(l, cluster.Member{Join: cluster.Join{Worker: n}})
		}
		return l
	}
	holds := func(step uint64) {
		t.Helper()
		names, err := os.ReadDir(filepath.Join(dir, "checkpoints"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range names {
			got = append(got, n.Name())
		}
		if s := strings.Join(got, " "); s != "latest "+checkpoint.DirName(step) {
			t.Errorf("the directory holds %s, want the checkpoint of step %d alone", s, step)
		}
		if err := checkpoint.Verify(filepath.Join(dir, "checkpoints", checkpoint.DirName(step))).Err(); err != nil {
			t.Error(err)
		}
	}
	r.fetching.members(members("a", "b"))
	if err := r.save(ctx, 5, offer(5, state(5), nil, a, b)); err != nil {
		t.Fatal(err)
	}
	holds(5)

	s := &stuck{at: 1 << 20, begun: make(chan struct{}), ended: make(chan struct{})}
	parts := offer(10, state(10), func(b []byte) io.ReaderAt { s.r = bytes.NewReader(b); return s }, a, b)
	failed := make(chan error, 1)
	go func() { failed <- r.save(ctx, 10, parts) }()
	<-s.begun
	r.fetching.members(members("a"))
	err = <-failed
	if err == nil || !strings.Contains(err.Error(), "worker b was lost before its part was stored") {
		t.Errorf("error %v, want one that names worker b", err)
	}
	close(s.ended)
	holds(5)
	if err := r.save(ctx, 10, parts); err == nil || !strings.Contains(err.Error(), "worker b was lost") {
		t.Errorf("a save that begins when it is gone already: %v", err)
	}

	// One whose part is another than it announced is named, too.
	parts = offer(10, state(10), func(b []byte) io.ReaderAt {
		bad := bytes.Clone(b)
		bad[len(bad)/2] ^= 1
		return bytes.NewReader(bad)
	}, a)
	if err := r.save(ctx, 10, parts); err == nil || !strings.Contains(err.Error(), "from worker a") || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("a part with a flipped bit: %v", err)
	}
	holds(5)

	// One who hands out, and announces, what it does not hold is found by the
	// digest of the whole, and named by what it and others say of its part.
	r.fetching.members(members("a", "b", "c"))
	for _, who := range [][]member{{b}, {a, b}, {a, c, b}} {
		for _, name := range []string{train.ModelFile, train.OptimizerFile} {
			for _, place := range []string{"header", "data"} {
				parts := offer(10, state(10), nil, who...)
				o := parts[len(parts)-1]
				for k := range o.Files {
					f := &o.Files[k]
					if f.File != name {
						continue
					}
					bad := bytes.Clone(state(10)[name][f.Offset : f.Offset+f.Size])
					at := len(bad) - 7
					if place == "header" && len(who) == 1 {
						at = 20
					}
					bad[at] ^= 0x40
					sum := sha256.Sum256(bad)
					f.SHA256 = hex.EncodeToString(sum[:])
					b.blobs.Withdraw(f.Name)
					if err := b.blobs.Offer(f.Name, f.Size, f.SHA256, bytes.NewReader(bad)); err != nil {
						t.Fatal(err)
					}
				}
				err := r.save(ctx, 10, parts)
				var pe *cluster.PartError
				if !errors.As(err, &pe) || !slices.Equal(pe.Workers, []string{"b"}) || !strings.Contains(err.Error(), "worker b") {
					t.Errorf("%d workers, the last of which hands out a flipped bit in the %s of %s: %v", len(who), place, name, err)
				}
				holds(5)
			}
		}
	}
	if t.Failed() {
		return
	}

	if err := r.save(ctx, 10, offer(10, state(10), nil, a)); err != nil {
		t.Fatal(err)
	}
	holds(10)

	// Nobody makes the coordinator reserve more than the model can have.
	parts = offer(15, state(15), nil, a)
	parts[0].Files[0].Total = 1 << 40
	if err := r.save(ctx, 15, parts); err == nil || !strings.Contains(err.Error(), "a model of 1048576 parameters has at most") {
		t.Errorf("a part of a file that is too large: %v", err)
	}
	holds(10)
}
