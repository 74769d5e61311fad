package transport

import (
	"context"
	"errors"
	"time"

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

// NewKey makes a key from a job's token; see natsbus.Key.
func NewKey(token, job string, role Role, id string, made, until time.Time) (Key, error) {
	return natsbus.NewKey(token, job, role, id, made, until)
}

// IsKey says whether a secret is meant to be a key, and no token.
func IsKey(text string) bool { return natsbus.IsKey(text) }

// ParseKey reads the text of a key.
func ParseKey(text string) (Key, error) { return natsbus.ParseKey(text) }

// Revocation is the line of a file that ends keys made up to a time.
func Revocation(role Role, id string, until time.Time) string {
	return natsbus.Revocation(role, id, until)
}

// ServerConfig is what the configuration of a NATS server has to say of keys.
func ServerConfig(keys []Key) string { return natsbus.ServerConfig(keys) }

type broker struct{ *natsbus.Broker }

func (b broker) Dial(ctx context.Context, o Options) (Member, error) {
	return connect(ctx, "", Credentials{}, o, b.Broker)
}

func connect(ctx context.Context, url string, c Credentials, o Options, b *natsbus.Broker) (Member, error) {
	conn, err := natsbus.Connect(ctx, url, c, natsbus.ConnOptions{Job: o.Job, Member: o.Member, Chunk: o.Chunk,
		Event: o.Event, Trouble: o.Trouble, Moved: o.Moved, Broker: b})
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
