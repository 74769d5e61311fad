package weights

import (
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Load sets every parameter from f. Missing, extra and misshapen
// tensors are all listed in the one error, and then nothing is changed.
func Load(ps *tensor.Params, f *safetensors.File) error {
	var want []checkpoint.Want
	for _, p := range ps.List() {
		want = append(want, checkpoint.Want{Name: p.Name, Shape: p.Shape})
	}
	if err := checkpoint.Match(f, want); err != nil {
		return err
	}
	for _, p := range ps.List() {
		if err := f.Float32Into(p.Name, p.Value); err != nil {
			return err
		}
	}
	return nil
}

// LoadFirst sets every parameter from a file that has exactly the model's names
// and shapes. Where it has not, the error says what would make it fit. Values
// that are not finite are refused.
func LoadFirst(ps *tensor.Params, f *safetensors.File) error {
	err := Load(ps, f)
	if err == nil {
		return checkFinite(ps, f.Name(), func(name string) string { info, _ := f.Tensor(name); return info.DType })
	}
	var bad *checkpoint.MismatchError
	if !errors.As(err, &bad) {
		return err
	}
	if s, ok := shardAlone(f.Name()); ok {
		return fmt.Errorf("%s: %s", f.Name(), s)
	}
	r, ok := remedyFor(ps, nil, f.Names())
	switch {
	case ok && r.fits == r.of && r.fits == len(f.Names()):
		return fmt.Errorf("%s: %s: init: {path: …, map: {%q: %q}}", f.Name(), r, r.rule.From, r.rule.To)
	case ok:
		return fmt.Errorf("%s: %s\n%w", f.Name(), r, err)
	case len(bad.Missing)+len(bad.Extra) > 0:
		return fmt.Errorf("%w\n(init.map translates and drops names, init.partial allows what is missing on either side)", err)
	case len(bad.Misshapen) > 0:
		return fmt.Errorf("%w\n(tensors of another shape or type are left out, and begin as the seed says, "+
			"by init.partial: true with init.map: {NAME: \"\"})", err)
	}
	return err
}
