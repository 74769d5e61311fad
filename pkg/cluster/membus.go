package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/vlaring/vlaring/internal/limits"
)

// ValidSubject says whether a subject can stand on any Bus: tokens of letters,
// digits, '-' and '_', joined by dots, of 256 bytes together at most. There are
// no wildcards.
func ValidSubject(s string) error {
	ok := len(s) <= 256
	for token := range strings.SplitSeq(s, ".") {
		ok = ok && token != "" && !strings.ContainsFunc(token, func(r rune) bool { return !limits.NameRune(r) })
	}
	if !ok {
		return fmt.Errorf("subject %.80q: want tokens of letters, digits, '-' or '_', joined by dots", s)
	}
	return nil
}

// MemBus is a Bus inside one process, for tests and for jobs without a network.
// Nothing is ever lost on it.
type MemBus struct {
	mu   sync.Mutex
	subs map[string][]*memSub // by subject, in order of subscription
}

var _ Bus = (*MemBus)(nil)

// NewMemBus returns a bus without subscribers.
func NewMemBus() *MemBus { return &MemBus{subs: map[string][]*memSub{}} }

// memMsg is one message on its way; reply is nil where none is wanted.
type memMsg struct {
	from  string // the last word of its subject
	data  []byte
	reply func([]byte) error
}

// memSub is one subscription: a queue, and a goroutine for as long as there is
// something in it.
type memSub struct {
	h       Handler
	mu      sync.Mutex
	queue   []memMsg
	running bool
	gone    bool
}

// push queues a message. It does not wait for the handler.
func (s *memSub) push(m memMsg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	s.queue = append(s.queue, m)
	if !s.running {
		s.running = true
		go s.drain()
	}
}

// drain calls the handler for what is queued, until there is nothing left.
func (s *memSub) drain() {
	for {
		s.mu.Lock()
		if s.gone || len(s.queue) == 0 {
			s.running, s.queue = false, nil
			s.mu.Unlock()
			return
		}
		m := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		s.h(m.from, m.data, m.reply)
	}
}

// deliver gives every subscriber a copy, and says how many there are. The lock
// is held throughout, so that all subscribers see one order.
func (b *MemBus) deliver(subject string, data []byte, reply func([]byte) error) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := strings.LastIndexByte(subject, '.')
	n := 0
	for _, pattern := range []string{subject, subject[:i+1] + "*"} {
		for _, s := range b.subs[pattern] {
			s.push(memMsg{subject[i+1:], append([]byte(nil), data...), reply})
			n++
		}
	}
	return n
}

// Publish implements Bus. Its only error is a subject that cannot be.
func (b *MemBus) Publish(subject string, data []byte) error {
	if err := ValidSubject(subject); err != nil {
		return err
	}
	b.deliver(subject, data, nil)
	return nil
}

// Request implements Bus.
func (b *MemBus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if err := ValidSubject(subject); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("request on %s: %w", subject, err)
	}
	answer := make(chan []byte, 1)
	reply := func(data []byte) error {
		select {
		case answer <- append([]byte(nil), data...):
		default: // the first answer counts
		}
		return nil
	}
	if b.deliver(subject, data, reply) == 0 {
		return nil, fmt.Errorf("request on %s: %w", subject, ErrNoResponder)
	}
	select {
	case data := <-answer:
		return data, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("request on %s: %w", subject, ctx.Err())
	}
}

// Subscribe implements Bus.
func (b *MemBus) Subscribe(subject string, h Handler) (func() error, error) {
	if err := ValidSubject(strings.TrimSuffix(subject, ".*")); err != nil {
		return nil, err
	}
	s := &memSub{h: h}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[subject] = append(b.subs[subject], s)
	return func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		kept := b.subs[subject][:0:0]
		for _, x := range b.subs[subject] {
			if x != s {
				kept = append(kept, x)
			}
		}
		if b.subs[subject] = kept; len(kept) == 0 {
			delete(b.subs, subject)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gone, s.queue = true, nil
		return nil
	}, nil
}
