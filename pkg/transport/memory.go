package transport

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// Memory is a transport between the members of one job in one process: the twins
// of the three seams, joined. Any URL leads to it, and no credentials are asked for.
type Memory struct {
	bus   *cluster.MemBus
	net   *allreduce.MemNetwork
	blobs *bulk.Memory
}

var _ Kind = (*Memory)(nil)

// NewMemory returns a transport with nobody on it.
func NewMemory() *Memory {
	return &Memory{cluster.NewMemBus(), allreduce.NewMemNetwork(allreduce.Faults{}), bulk.NewMemory()}
}

// Check takes any URL.
func (*Memory) Check(string) error { return nil }

// Host is the transport itself: it is in this process already.
func (m *Memory) Host(HostOptions) (Host, error) { return memoryHost{m}, nil }

// Dial joins a member.
func (m *Memory) Dial(_ context.Context, _ string, _ Credentials, o Options) (Member, error) {
	if err := cluster.ValidName("job name", o.Job); err != nil {
		return nil, err
	}
	if err := cluster.ValidName("member name", o.Member); err != nil {
		return nil, err
	}
	return &memoryMember{road: m, name: o.Member}, nil
}

// memoryHost is a server that is nowhere: there is nothing to start or to end.
type memoryHost struct{ *Memory }

func (h memoryHost) Dial(ctx context.Context, o Options) (Member, error) {
	return h.Memory.Dial(ctx, "", Credentials{}, o)
}

func (memoryHost) URL() string             { return "memory://" }
func (memoryHost) Others() []string        { return nil }
func (memoryHost) Token() string           { return "" }
func (memoryHost) TLSName() string         { return "" }
func (memoryHost) RouteAddr() string       { return "" }
func (memoryHost) Peers() int              { return 0 }
func (memoryHost) WorkerKey(string) string { return "" }
func (memoryHost) Expel(string)            {}
func (memoryHost) Shutdown()               {}

type memoryMember struct {
	road *Memory
	name string

	mu     sync.Mutex
	open   []io.Closer
	closed bool
}

func (m *memoryMember) Bus() cluster.Bus { return memoryBus{m.road.bus, m} }

// memoryBus is the bus as one member has it: its subscriptions end with it.
type memoryBus struct {
	cluster.Bus
	m *memoryMember
}

func (b memoryBus) Subscribe(subject string, h cluster.Handler) (func() error, error) {
	stop, err := b.Bus.Subscribe(subject, h)
	if err != nil {
		return nil, err
	}
	return stop, b.m.adopt(closer(stop))
}

type closer func() error

func (c closer) Close() error { return c() }

func (m *memoryMember) Network() (allreduce.Network, error) {
	n := m.road.net.Join(m.name)
	return n, m.adopt(n)
}

func (m *memoryMember) Blobs(stock func(bulk.Blobs) error) (Blobs, error) {
	b, err := m.road.blobs.JoinWith(m.name, stock)
	if err != nil {
		return nil, err
	}
	return b, m.adopt(b)
}

// adopt has Close close x, at once if it was called before.
func (m *memoryMember) adopt(x io.Closer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		x.Close()
		return errClosed
	}
	m.open = append(m.open, x)
	return nil
}

var errClosed = errors.New("this member has closed its connection")

// Broken is never closed: memory does not break.
func (m *memoryMember) Broken() <-chan struct{} { return nil }
func (m *memoryMember) Err() error              { return nil }

func (m *memoryMember) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, x := range m.open {
		x.Close()
	}
	m.open = nil
	return nil
}
