package transport

import (
	"context"
	"errors"

	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/natsbus"
)

// NATS is the transport over a NATS server: one that runs elsewhere, or an
// embedded one.
type NATS struct{}

var _ Kind = NATS{}

// ErrSecrets says that a URL holds a password or a token.
var ErrSecrets = errors.New("the URL has a secret in it")

// Check refuses what is no list of servers, and one with a secret in it (ErrSecrets).
func (NATS) Check(url string) error {
	if natsbus.HasSecrets(url) {
		return ErrSecrets
	}
	return natsbus.ValidServers(url)
}

// Dial is that of natsbus.Connect.
func (NATS) Dial(ctx context.Context, url string, c Credentials, o Options) (Member, error) {
	return connect(ctx, url, c, o, nil)
}

// Host starts an embedded server.
func (NATS) Host(o HostOptions) (Host, error) {
	b, err := natsbus.StartBroker(o)
	if err != nil {
		return nil, err
	}
	return broker{b}, nil
}

type broker struct{ *natsbus.Broker }

func (b broker) Dial(ctx context.Context, o Options) (Member, error) {
	return connect(ctx, "", Credentials{}, o, b.Broker)
}

func connect(ctx context.Context, url string, c Credentials, o Options, b *natsbus.Broker) (Member, error) {
	conn, err := natsbus.Connect(ctx, url, c, natsbus.ConnOptions{Job: o.Job, Member: o.Member, Chunk: o.Chunk,
		Event: o.Event, Trouble: o.Trouble, Broker: b})
	if err != nil {
		return nil, err
	}
	return member{conn}, nil
}

type member struct{ *natsbus.Conn }

func (m member) Blobs(stock func(bulk.Blobs) error) (Blobs, error) {
	b, err := m.Conn.Blobs(stock)
	if err != nil {
		return nil, err
	}
	return b, nil
}
