package bulk

import (
	"container/list"
	"context"
	"crypto/sha256"
	"sync"
)

// maker calls the functions that make blobs, once for all who ask for the same
// name meanwhile, and keeps what they made for the chunks that are still to be
// asked for: the least recently used go first, and the newest one stays
// whatever its size. Errors are not kept.
type maker struct {
	ctx   context.Context // of the functions: the making outlives the one who asked first
	limit int64
	slots chan struct{}
	wg    sync.WaitGroup

	mu    sync.Mutex
	bytes int64 // of the finished ones, with what keeping them takes
	all   map[string]*made
	order *list.List // of finished *made, the most recently used first
}

type made struct {
	name   string
	ready  chan struct{} // closed when the rest is set
	data   []byte
	sha256 [32]byte
	err    error
	place  *list.Element
}

// cost is what it takes to keep one. Small ones count too: names are the
// askers' choice, and there is no end of them.
func (x *made) cost() int64 { return int64(len(x.data)+len(x.name)) + madeOverhead }

const madeOverhead = 512 // bytes of structs, list and map around one

func newMaker(ctx context.Context, limit int64, parallel int) *maker {
	return &maker{ctx: ctx, limit: limit, slots: make(chan struct{}, parallel), all: map[string]*made{}, order: list.New()}
}

// wait returns when no function runs any more. Nobody may ask by then.
func (k *maker) wait() { k.wg.Wait() }

func (k *maker) get(ctx context.Context, name string, f func(context.Context, string) ([]byte, error)) ([]byte, [32]byte, error) {
	k.mu.Lock()
	x := k.all[name]
	if x == nil {
		x = &made{name: name, ready: make(chan struct{})}
		k.all[name] = x
		k.wg.Add(1)
		go k.make(x, f)
	} else if x.place != nil {
		k.order.MoveToFront(x.place)
	}
	k.mu.Unlock()
	select {
	case <-x.ready:
		return x.data, x.sha256, x.err
	case <-ctx.Done():
		return nil, x.sha256, context.Cause(ctx)
	}
}

func (k *maker) make(x *made, f func(context.Context, string) ([]byte, error)) {
	defer k.wg.Done()
	defer close(x.ready)
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
		x.data, x.err = f(k.ctx, x.name)
	case <-k.ctx.Done():
		x.err = context.Cause(k.ctx)
	}
	if x.err == nil {
		x.sha256 = sha256.Sum256(x.data)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if x.err != nil {
		delete(k.all, x.name)
		return
	}
	x.place = k.order.PushFront(x)
	k.bytes += x.cost()
	for k.bytes > k.limit && k.order.Len() > 1 {
		old := k.order.Remove(k.order.Back()).(*made)
		k.bytes -= old.cost()
		delete(k.all, old.name)
	}
}
