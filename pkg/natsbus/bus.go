package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/pkg/cluster"
)

type bus struct{ *Conn }

var _ cluster.Bus = bus{}

func (b bus) Publish(subject string, data []byte) error {
	if err := cluster.ValidSubject(subject); err != nil {
		return err
	}
	if err := b.control.Publish(subject, data); err != nil {
		return fmt.Errorf("publishing %d bytes on %s: %w", len(data), subject, err)
	}
	return nil
}

func (b bus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if err := cluster.ValidSubject(subject); err != nil {
		return nil, err
	}
	try, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.fate, cancel)()
	m, err := b.control.RequestWithContext(try, subject, data)
	switch {
	case err != nil && b.Err() != nil:
		return nil, fmt.Errorf("request on %s: %w", subject, b.Err())
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("request on %s: %w", subject, cluster.ErrNoResponder)
	case err != nil:
		return nil, fmt.Errorf("request on %s: %w", subject, err)
	}
	return m.Data, nil
}

func (b bus) Subscribe(subject string, h cluster.Handler) (func() error, error) {
	if err := cluster.ValidSubject(strings.TrimSuffix(subject, ".*")); err != nil {
		return nil, err
	}
	sub, err := subscribe(b.control, subject, func(m *nats.Msg) {
		b.hears()
		from := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		if m.Reply == "" {
			h(from, m.Data, nil)
			return
		}
		h(from, m.Data, func(data []byte) error { return b.control.Publish(m.Reply, data) })
	})
	if err != nil {
		return nil, err
	}
	return sub.Unsubscribe, nil
}
