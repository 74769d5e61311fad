package train

import (
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Layout is where a model's parameters lie in a slab. With it whoever has no
// model works out the digest of a state from a checkpoint's files.
type Layout struct {
	places  []spot // by offset
	floats  int    // of a slab
	count   int    // of parameters, gaps left out
	kept    int    // of those that the optimizer keeps something of
	slots   []Slot // of the optimizer
	sharded bool   // moments are shared out: a digest is of weights alone
}

type spot struct {
	name         string
	offset, size int  // floats
	bare         bool // the optimizer keeps nothing of it
}

// LayoutOf is the layout of ps, which is sealed, in a job with an optimizer of
// those slots, which are shared out among the ranks or not.
func LayoutOf(ps *tensor.Params, slots []Slot, sharded bool) Layout {
	l := Layout{floats: ps.Len(), count: ps.Count(), slots: slots, sharded: sharded}
	keeps := keeping(slots)
	for _, p := range ps.List() {
		l.places = append(l.places, spot{p.Name, p.Offset, p.Size(), !keeps(p)})
		if keeps(p) {
			l.kept += p.Size()
		}
	}
	slices.SortFunc(l.places, func(a, b spot) int { return a.offset - b.offset })
	return l
}

// Parameters is the number of the model's parameters.
func (l Layout) Parameters() int { return l.count }

// ModelBytes is the size of a checkpoint's file of weights, without its header.
func (l Layout) ModelBytes() int64 { return 4 * int64(l.count) }

// OptimizerBytes is the same of its file of the optimizer's slots.
func (l Layout) OptimizerBytes() int64 { return 4 * int64(len(l.slots)) * int64(l.kept) }

// Sharded says that the layout's state has moments that ranks share out.
func (l Layout) Sharded() bool { return l.sharded }

// Digest is what Trainer.Digest says of the state of step that the files hold.
func (l Layout) Digest(step uint64, model, optimizer *safetensors.File) (string, error) {
	weights, err := l.sum(model, "")
	if err != nil {
		return "", err
	}
	sums := []uint32{weights}
	for _, slot := range l.slots {
		if l.sharded {
			break
		}
		sum, err := l.sum(optimizer, slotName(slot.Name, ""))
		if err != nil {
			return "", err
		}
		sums = append(sums, sum)
	}
	return stateDigest(step, sums), nil
}

// stateDigest is the text that is compared, sent and logged: the step, so that
// states of different steps never compare equal, and a sum for each slab.
func stateDigest(step uint64, sums []uint32) string {
	text := fmt.Sprintf("%d-", step)
	for _, s := range sums {
		text += fmt.Sprintf("%08x", s)
	}
	return text
}

// sum is the checksum of the slab that a file's tensors make, gaps of zeros included.
func (l Layout) sum(f *safetensors.File, prefix string) (uint32, error) {
	h := octets.NewSum()
	at := 0
	piece := make([]byte, 1<<15) // one for all tensors: io.Copy would make one for each
	for _, p := range l.places {
		zeros(h, p.offset-at)
		if p.bare && prefix != "" {
			zeros(h, p.size)
			at = p.offset + p.size
			continue
		}
		i, ok := f.Tensor(prefix + p.name)
		if !ok || i.DType != "F32" || i.Elements() != p.size {
			return 0, fmt.Errorf("%s: tensor %q is not there as %d values of F32", f.Name(), prefix+p.name, p.size)
		}
		r, err := f.Bytes(prefix + p.name)
		if err != nil {
			return 0, err
		}
		if _, err := io.CopyBuffer(h, r, piece); err != nil {
			return 0, fmt.Errorf("%s: %w", f.Name(), err)
		}
		at = p.offset + p.size
	}
	zeros(h, l.floats-at)
	return h.Sum32(), nil
}

// zeros writes n floats of zeros.
func zeros(h hash.Hash32, n int) {
	for n *= 4; n > 0; n -= len(noBytes) {
		h.Write(noBytes[:min(n, len(noBytes))])
	}
}

// noBytes are zeros. Nobody writes to them.
var noBytes [1 << 14]byte

// PartSum is the checksum by which witnesses speak of a run of bytes of a
// checkpoint's file.
func PartSum() hash.Hash32 { return octets.NewSum() }

// partOf is where part of parts lies in a file of n bytes. The parts cover it
// without gaps, their sizes differ by one byte at most, and some are empty where
// there are more parts than bytes.
func partOf(n int64, part, parts int) (offset, size int64) {
	offset = n * int64(part) / int64(parts)
	return offset, n*int64(part+1)/int64(parts) - offset
}

// witnesses are the checksums of the parts that a worker vouches for beside its
// own: the next ones, so that of three workers two know better than a third
// that hands out something else. For whoever holds the state.
func (t *Trainer) witnesses(part, parts int) (sums []string, err error) {
	f, err := t.files()
	if err != nil {
		return nil, err
	}
	most := MaxWitnesses
	if t.shards != nil { // of others it holds the next one's
		most = 2
	}
	for k := range min(parts, most) {
		l, err := t.pieces(f, (part+k)%parts, parts)
		if err != nil {
			return nil, err
		}
		text := ""
		for _, p := range l {
			h := PartSum()
			if _, err := io.Copy(h, io.NewSectionReader(p.view, p.offset, p.size)); err != nil {
				return nil, err
			}
			text += fmt.Sprintf("%08x", h.Sum32())
		}
		sums = append(sums, text)
	}
	return sums, nil
}

// MaxWitnesses is how many workers speak of each part, its own included; two of
// one whose moments are shared out.
const MaxWitnesses = 3
