package run

import (
	"context"
	"fmt"
	"sync"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// fetching is the checkpoint that is being fetched. A worker that is lost
// meanwhile would be waited for; with it goes the checkpoint, at once.
type fetching struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc
	owners []string        // of its parts
	last   map[string]bool // the members
}

func (f *fetching) begin(ctx context.Context, parts []*cluster.Offer) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancel, f.owners = cancel, nil
	for _, p := range parts {
		f.owners = append(f.owners, p.Worker)
	}
	f.check()
	return ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.cancel, f.owners = nil, nil
		cancel(nil)
	}
}

// members is told of every change.
func (f *fetching) members(l []cluster.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = map[string]bool{}
	for _, m := range l {
		f.last[m.Worker] = true
	}
	f.check()
}

func (f *fetching) check() {
	for _, w := range f.owners {
		if f.last != nil && !f.last[w] {
			f.cancel(fmt.Errorf("worker %s was lost before its part was stored", w))
		}
	}
}
