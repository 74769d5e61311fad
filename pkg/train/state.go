package train

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/weights"
)

// Names of the files of a checkpoint, as blobs and on the disk.
const (
	ModelFile     = checkpoint.ModelFile
	OptimizerFile = checkpoint.OptimizerFile
)

// slotName is what a slot of a parameter is called in a checkpoint.
func slotName(slot, param string) string { return slot + "." + param }

// The state lies in slabs, parameter behind parameter in the reverse order of their
// use (so that backward completes buckets from the front), each begun at a cache
// line. A checkpoint has the same numbers by name, without gaps:
//
//	slab of weights   │ last layer … │gap│ … first layer │    one such slab for each of the optimizer's slots
//	model file        │ header │ tensors by name │           optimizer file: the slots of all tensors
//
// So a part of a checkpoint is a run of bytes of a file, and its numbers come from
// all over a slab: a safetensors.View reads them without a copy of the file.

// stateFiles are the two files of a checkpoint as views of the living state:
// they follow it, and may be read only while it does not change.
type stateFiles struct{ model, optimizer *safetensors.View }

func (t *Trainer) files() (stateFiles, error) {
	var model, opt []safetensors.Tensor
	for _, p := range t.params.List() {
		at := func(slab []float32) []float32 { return slab[p.Offset : p.Offset+p.Size()] }
		model = append(model, safetensors.Tensor{Name: p.Name, Shape: p.Shape, Data: at(t.params.Values())})
		for i, s := range t.opt.Optimizer.Slots() {
			if t.keeps(p) {
				opt = append(opt, safetensors.Tensor{Name: slotName(s.Name, p.Name), Shape: p.Shape, Data: at(t.slots[i])})
			}
		}
	}
	var f stateFiles
	var err error
	if f.model, err = safetensors.NewView(model, nil); err != nil {
		return f, err
	}
	f.optimizer, err = safetensors.NewView(opt, nil)
	return f, err
}

// Living is one file of the checkpoint that the state would make: it is read
// between commits, and what was read before a commit and after it is of two states.
type Living struct {
	mu   *sync.RWMutex
	view *safetensors.View
}

// Living are the files of the model and of the optimizer.
func (t *Trainer) Living() (model, optimizer Living, err error) {
	f, err := t.files()
	return Living{&t.mu, f.model}, Living{&t.mu, f.optimizer}, err
}

// Size is the file's, which no step changes.
func (l Living) Size() int64 { return l.view.Size() }

// ReadAt is io.ReaderAt's.
func (l Living) ReadAt(p []byte, off int64) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.view.ReadAt(p, off)
}

// Part is a copy of a run of bytes of one of a checkpoint's files.
type Part struct {
	File   string
	Offset int64
	Total  int64 // bytes of the file
	Data   []byte
}

// Part copies part of parts of the state as checkpoint files: equal runs of
// bytes of each. The memory of old, which may be nil, is used again: a part of a
// large model is gigabytes, and checkpoint follows checkpoint.
func (t *Trainer) Part(part, parts int, old []Part) ([]Part, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.void {
		return nil, errors.New("there is no state: what was to be restored was not what it should be")
	}
	return t.copyPart(part, parts, old)
}

// Held is a state that stays as it is, for which the next commit waits, until
// Release. Whatever is read of it is of one step: a copy, its digest and the
// checksums of its parts belong together.
type Held struct{ t *Trainer }

// Hold holds the state of step; false if the state is another by now.
func (t *Trainer) Hold(step uint64) (Held, bool) {
	t.mu.RLock()
	if t.step != step || t.void {
		t.mu.RUnlock()
		return Held{}, false
	}
	return Held{t}, true
}

// Release lets commits go on. It is called once.
func (h Held) Release() { h.t.mu.RUnlock() }

// Part is that of Trainer.
func (h Held) Part(part, parts int, old []Part) ([]Part, error) {
	return h.t.copyPart(part, parts, old)
}

// Digest is that of Trainer.
func (h Held) Digest() string { return h.t.digest() }

// Witnesses are the checksums of the parts that a worker vouches for beside its
// own, at most MaxWitnesses with its own: see PartSum.
func (h Held) Witnesses(part, parts int) ([]string, error) { return h.t.witnesses(part, parts) }

// piece is a run of bytes of one file of the state.
type piece struct {
	file string
	view *safetensors.View
	byteRun
}

// pieces are part of parts of the state's files, in order: a run of each, or of
// each slot of one shard of the moments. What is shared out has to be here.
func (t *Trainer) pieces(f stateFiles, part, parts int) (l []piece, err error) {
	offset, size := partOf(f.model.Size(), part, parts)
	l = append(l, piece{ModelFile, f.model, byteRun{offset, size}})
	s := t.shards
	if s == nil {
		offset, size := partOf(f.optimizer.Size(), part, parts)
		return append(l, piece{OptimizerFile, f.optimizer, byteRun{offset, size}}), nil
	}
	if n := s.missing([]allreduce.Range{s.shard(part, parts)}, t.step); len(n) > 0 {
		return nil, fmt.Errorf("the moments %v are not here", n)
	}
	for _, r := range s.runs(f.optimizer.DataStart(), len(t.slots), part, parts) {
		l = append(l, piece{OptimizerFile, f.optimizer, r})
	}
	return l, nil
}

// copyPart is Part for whoever holds the state.
func (t *Trainer) copyPart(part, parts int, old []Part) ([]Part, error) {
	f, err := t.files()
	if err != nil {
		return nil, err
	}
	pieces, err := t.pieces(f, part, parts)
	if err != nil {
		return nil, err
	}
	var out []Part
	for i, x := range pieces {
		p := Part{File: x.file, Total: x.view.Size(), Offset: x.offset}
		if i < len(old) && int64(cap(old[i].Data)) >= x.size {
			p.Data = old[i].Data[:x.size]
		} else {
			p.Data = make([]byte, x.size)
		}
		var err error
		inPieces(len(p.Data), func(lo, hi int) {
			if _, e := x.view.ReadAt(p.Data[lo:hi], p.Offset+int64(lo)); e != nil && e != io.EOF {
				err = e
			}
		})
		if err != nil {
			return nil, fmt.Errorf("copying %s: %w", x.file, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// Digest names the state: checksums of weights and, unless they are shared out,
// moments, and the step. It is for comparing what must be equal, not for
// security. It is empty where a Restore failed: then there is no state. It is read
// at the speed of memory, so it is taken where states are compared, and not each step.
func (t *Trainer) Digest() string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.void {
		return ""
	}
	return t.digest()
}

// digest is Digest for whoever holds the state.
func (t *Trainer) digest() string {
	slabs := append([][]float32{t.params.Values()}, t.slots...)
	if t.shards != nil { // nobody has all moments
		slabs = slabs[:1]
	}
	sums := make([]uint32, len(slabs))
	var all sync.WaitGroup
	for i, slab := range slabs {
		all.Go(func() { sums[i] = checksum(slab) })
	}
	all.Wait()
	return stateDigest(t.step, sums)
}

// inPieces does something to n elements or bytes in pieces. The assembly that
// copies, clears and sums memory cannot be interrupted: over a whole slab, whose
// pages may have to be made first, it holds up the garbage collector, that holds
// up everything, and for a second nobody hears of this worker. A signal to stop
// would nearly always find it in there, too: it has to be asked between pieces.
func inPieces(n int, f func(lo, hi int)) {
	const piece = 1 << 18
	for lo := 0; lo < n; lo += piece {
		f(lo, min(lo+piece, n))
		runtime.Gosched()
	}
}

// checksum is the CRC-32C of little-endian float32.
func checksum(x []float32) (sum uint32) {
	if len(x) == 0 {
		return 0
	}
	if b := octets.View(x); b != nil {
		inPieces(len(b), func(lo, hi int) { sum = octets.AddSum(sum, b[lo:hi]) })
		return sum
	}
	var buf [4096]byte // elsewhere the bytes have to be made: the sum is of the file's, not of the machine's
	for len(x) > 0 {
		n := min(len(x), len(buf)/4)
		octets.Put(buf[:], x[:n])
		sum = octets.AddSum(sum, buf[:4*n])
		x = x[n:]
	}
	return sum
}

// Restore sets weights, moments and step to those of a checkpoint's files.
// Where digest is not empty, the state must be the one that it names. On an
// error there may be no state any more: see Digest.
func (t *Trainer) Restore(step uint64, model, optimizer *safetensors.File, digest string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget() // gradients are of the state that goes
	t.sums.drop()
	t.prog.WeightsChange()
	t.void = true
	if err := weights.Load(t.params, model); err != nil {
		return err
	}
	if err := checkpoint.Match(optimizer, t.wantMoments(optimizer)); err != nil {
		return err
	}
	for _, p := range t.params.List() {
		for i, s := range t.opt.Optimizer.Slots() {
			if !t.keeps(p) {
				continue // its slot has no memory, and stays so
			}
			if err := optimizer.Float32Into(slotName(s.Name, p.Name), t.slots[i][p.Offset:p.Offset+p.Size()]); err != nil {
				return fmt.Errorf("restoring step %d: %w", step, err)
			}
		}
	}
	if s := t.shards; s != nil {
		s.restored(step)
	}
	return t.restored(step, digest)
}

// keeps says whether the optimizer keeps anything of p: what is frozen has no
// moments, neither in memory nor in a file. Where a slot begins as the weights, which
// an average does, it is of all parameters, and then all slots are.
func (t *Trainer) keeps(p *tensor.Param) bool {
	return keeping(t.opt.Optimizer.Slots())(p)
}

// keeping is Trainer.keeps of an optimizer of those slots.
func keeping(slots []Slot) func(*tensor.Param) bool {
	all := slices.ContainsFunc(slots, func(s Slot) bool { return s.Weights })
	return func(p *tensor.Param) bool { return all || !p.Frozen }
}

// wantMoments are the tensors of a file of moments. One of a former release has zeros
// of frozen parameters too.
func (t *Trainer) wantMoments(file *safetensors.File) (want []checkpoint.Want) {
	for _, p := range t.params.List() {
		for _, s := range t.opt.Optimizer.Slots() {
			name := slotName(s.Name, p.Name)
			if _, has := file.Tensor(name); has || t.keeps(p) {
				want = append(want, checkpoint.Want{Name: name, Shape: p.Shape})
			}
		}
	}
	return want
}

// restored ends a Restore. What came from peers is trusted for its digest alone:
// with another one there is no state here, and nothing of it is handed on.
func (t *Trainer) restored(step uint64, digest string) error {
	t.step = step
	if got := t.digest(); digest != "" && got != digest {
		return fmt.Errorf("the state of step %d came as %s, want %s", step, got, digest)
	}
	t.void = false
	return nil
}

// RestoreWeights is Restore where moments are shared out: those of step that are
// here stay; from says where the others are to be had, nil: from other ranks.
func (t *Trainer) RestoreWeights(step uint64, model *safetensors.File, digest string, from *Origin) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	t.sums.drop()
	t.prog.WeightsChange()
	t.void = true
	if err := weights.Load(t.params, model); err != nil {
		return err
	}
	if from != nil { // what is here is of other steps, or not to be trusted
		for _, slot := range t.slots {
			tensor.Discard(slot)
		}
		t.shards.have, t.shards.next = nil, nil
	}
	t.settleAt(step)
	t.shards.origin = from
	return t.restored(step, digest)
}

// Reset sets the state to the job's beginning: weights from the seed or from
// init, which may be nil, and slots as they begin.
func (t *Trainer) Reset(seed uint64, init *safetensors.File) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	t.sums.drop()
	t.prog.WeightsChange()
	t.step = 0
	for _, slab := range t.slots {
		if t.shards != nil || t.frozen { // zeros that take no memory, for the ranges that are never this rank's, or nobody's
			tensor.Discard(slab)
		} else {
			inPieces(len(slab), func(lo, hi int) { clear(slab[lo:hi]) })
		}
	}
	if t.shards != nil {
		t.shards.restored(0)
	}
	if init == nil {
		t.model.Init(seed)
	} else if err := weights.Load(t.params, init); err != nil { // changes nothing
		return err
	}
	t.beginSlots()
	t.void = false
	return nil
}

// beginSlots gives the slots that begin as the first weights these.
func (t *Trainer) beginSlots() {
	for i, s := range t.opt.Optimizer.Slots() {
		if s.Weights {
			inPieces(t.params.Len(), func(lo, hi int) { copy(t.slots[i][lo:hi], t.params.Values()[lo:hi]) })
		}
	}
}
