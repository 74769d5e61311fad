package train

import "github.com/vlaring/vlaring/pkg/tensor"

// SetProfile turns the timing of what steps are made of on or off.
func (t *Trainer) SetProfile(on bool) {
	t.prog.SetProfile(on)
	t.rt.SetProfile(on)
}

// Profile returns what operations took by their kind, and what was spent on
// whole slabs, since it was called last; nothing without SetProfile. Folds are a
// part of backward's time, norm and update of the optimizer's.
func (t *Trainer) Profile() ([]tensor.OpTime, tensor.SlabTimes) {
	return t.prog.Profile(), t.rt.Profile()
}

// Memory is what is held beside weights and moments between two steps, in bytes:
// slabs of gradients that were ever needed at once, with their tails, and
// activations with their gradients.
func (t *Trainer) Memory() (gradients, activations int64) {
	return 4 * int64(t.slabs.floats) * int64(len(t.slabs.free)), t.prog.MemoryBytes()
}

// Close gives the memory of the program back. No step may be in progress.
func (t *Trainer) Close() { t.prog.Close() }
