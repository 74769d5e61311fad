package storetest

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// Prefixes of the optimizer's tensors, as AdamW's slots have them; the parameter's
// name follows.
const (
	firstMoment  = "exp_avg."
	secondMoment = "exp_avg_sq."
)

// Tensor is one tensor of a model's state. Data is row-major; its length is the
// product of Shape.
type Tensor struct {
	Name  string
	Shape []int
	Data  []float32
}

// State is a checkpoint in memory. The three lists are sorted by name; the
// moments carry their parameter's name, without prefix.
type State struct {
	Manifest      checkpoint.Manifest
	Model         []Tensor
	First, Second []Tensor // exp_avg, exp_avg_sq
}

// Read verifies the checkpoint in dir and loads all of it.
func Read(dir string) (*State, error) {
	if err := checkpoint.Verify(dir).Err(); err != nil {
		return nil, err
	}
	m, err := checkpoint.ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	s := &State{Manifest: m}
	if s.Model, err = readTensors(filepath.Join(dir, checkpoint.ModelFile)); err != nil {
		return nil, err
	}
	moments, err := readTensors(filepath.Join(dir, checkpoint.OptimizerFile))
	if err != nil {
		return nil, err
	}
	for _, t := range moments {
		if name, ok := strings.CutPrefix(t.Name, firstMoment); ok {
			s.First = append(s.First, Tensor{name, t.Shape, t.Data})
		} else if name, ok := strings.CutPrefix(t.Name, secondMoment); ok {
			s.Second = append(s.Second, Tensor{name, t.Shape, t.Data})
		} else {
			return nil, fmt.Errorf("%s: tensor %q is neither %s… nor %s…", filepath.Join(dir, checkpoint.OptimizerFile), t.Name, firstMoment, secondMoment)
		}
	}
	return s, nil
}

func readTensors(path string) ([]Tensor, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := make([]Tensor, 0, len(f.Names()))
	for _, name := range f.Names() {
		info, _ := f.Tensor(name)
		data, err := f.Float32(name)
		if err != nil {
			return nil, err
		}
		out = append(out, Tensor{name, info.Shape, data})
	}
	return out, nil
}

// Write stores a state as the checkpoint of state.Manifest.Step.
func Write(s checkpoint.Store, state *State) error {
	var model, moments []safetensors.Tensor
	for _, t := range state.Model {
		model = append(model, safetensors.Tensor{Name: t.Name, Shape: t.Shape, Data: t.Data})
	}
	for _, t := range state.First {
		moments = append(moments, safetensors.Tensor{Name: firstMoment + t.Name, Shape: t.Shape, Data: t.Data})
	}
	for _, t := range state.Second {
		moments = append(moments, safetensors.Tensor{Name: secondMoment + t.Name, Shape: t.Shape, Data: t.Data})
	}
	w, err := s.Begin(state.Manifest.Step)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, f := range []struct {
		name    string
		tensors []safetensors.Tensor
	}{{checkpoint.ModelFile, model}, {checkpoint.OptimizerFile, moments}} {
		v, err := safetensors.NewView(f.tensors, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		dst, err := w.Create(f.name, v.Size())
		if err != nil {
			return err
		}
		if _, err := v.WriteTo(io.Writer(dst)); err != nil {
			return err
		}
		if err := dst.Close(); err != nil {
			return err
		}
	}
	return w.Commit(state.Manifest)
}
