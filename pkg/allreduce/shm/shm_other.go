//go:build !linux

package shm

import (
	"context"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// Segment cannot be had on this system.
type Segment struct{}

// Open returns ErrUnsupported.
func Open(string, Layout) (*Segment, error) { return nil, ErrUnsupported }

// NewAddress is empty.
func NewAddress() string { return "" }

// Host is empty: no two processes share memory here.
func Host() string { return "" }

// Address is empty.
func (*Segment) Address() string { return "" }

// Slab has none to give.
func (*Segment) Slab() ([]float32, error) { return nil, ErrUnsupported }

// Join makes no team.
func (*Segment) Join(context.Context, uint64, []string, int) (allreduce.Team, error) {
	return nil, ErrUnsupported
}

// Close does nothing.
func (*Segment) Close() error { return nil }
