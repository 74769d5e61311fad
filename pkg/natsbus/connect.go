package natsbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// Credentials prove to a server who one is. Of Token, User with Password, and
// CredsFile a server wants one.
type Credentials struct {
	Token     string
	User      string
	Password  string
	CredsFile string // NATS credentials: a JWT and its key
	TLS       TLSFiles
}

// ConnOptions say who connects.
type ConnOptions struct {
	Job    string            // name of the job
	Member string            // this member's name in it: a worker's id, or the coordinator's
	Event  func(text string) // told of lost and regained connections and the like; may be nil
	Broker *Broker           // connects to this one, in process: URL and credentials are its own
}

const (
	dialTimeout   = 2 * time.Second
	retryFirst    = 50 * time.Millisecond // between tries to connect, doubled up to retryMost
	retryMost     = time.Second
	reconnectWait = 100 * time.Millisecond
	writeTimeout  = 2 * time.Second // of each write to the socket: what notices a silent partition
	pingInterval  = 5 * time.Second
	pingsOut      = 3
	subscribeWait = 10 * time.Second // for the server to confirm

	controlBuffer = 1 << 20   // control messages kept while the server is away
	minPayload    = 1 << 20   // what the server must let through: NATS's default
	bulkPending   = 256 << 20 // frames that wait for the ring: above its credit of at most 128 MiB
)

// ErrRefused is the error of a server that does not take the credentials.
var ErrRefused = errors.New("the server refuses these credentials")

// Conn is a member's connection to the server of its job.
type Conn struct {
	opt     ConnOptions
	control *nats.Conn
	bulk    *nats.Conn
	done    chan struct{}
	closing atomic.Bool

	mu     sync.Mutex
	closed bool
	open   map[interface{ Close() error }]struct{} // networks and blobs not yet closed

	session context.Context // of the bulk connection: done when it is lost, replaced at once
	lost    context.CancelFunc
}

// Connect connects to a NATS server. A server that is not there yet is tried
// until ctx ends; one that refuses the credentials, or that TLS does not
// trust, fails at once. url may list several servers, separated by commas.
func Connect(ctx context.Context, url string, creds Credentials, opt ConnOptions) (*Conn, error) {
	if err := ValidName("job name", opt.Job); err != nil {
		return nil, err
	}
	if err := ValidName("member name", opt.Member); err != nil {
		return nil, err
	}
	if opt.Event == nil {
		opt.Event = func(string) {}
	}
	if opt.Broker != nil {
		url, creds = opt.Broker.url, Credentials{Token: opt.Broker.token}
	} else if err := ValidServers(url); err != nil {
		return nil, err
	}
	config, err := creds.TLS.client()
	if err != nil {
		return nil, err
	}
	c := &Conn{opt: opt, done: make(chan struct{}), open: map[interface{ Close() error }]struct{}{}}
	c.session, c.lost = context.WithCancel(context.Background())
	if c.control, err = c.dial(ctx, url, creds, config, "control", nats.ReconnectBufSize(controlBuffer)); err != nil {
		return nil, err
	}
	// What bulk a lost connection swallowed is repeated by its sender; buffered
	// as well it would only come late.
	if c.bulk, err = c.dial(ctx, url, creds, config, "bulk", nats.ReconnectBufSize(-1)); err != nil {
		c.Close()
		return nil, err
	}
	if got := c.bulk.MaxPayload(); got < minPayload {
		c.Close()
		return nil, fmt.Errorf("NATS server at %s: its max_payload is %d bytes: set it to at least %d", withoutSecrets(url), got, minPayload)
	}
	return c, nil
}

func (c *Conn) dial(ctx context.Context, url string, creds Credentials, config *tls.Config, kind string, extra nats.Option) (*nats.Conn, error) {
	began, where := time.Now(), withoutSecrets(url)
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		limit := dialTimeout
		if end, ok := ctx.Deadline(); ok {
			limit = max(min(limit, time.Until(end)), time.Millisecond)
		}
		nc, err := nats.Connect(url, append(c.options(creds, config, kind, where), extra, nats.Timeout(limit))...)
		if err == nil {
			return nc, nil
		}
		if final := hopeless(err, creds); final != nil {
			return nil, fmt.Errorf("NATS server at %s: %w", where, final)
		}
		if wait == retryFirst && kind == "control" {
			c.opt.Event(fmt.Sprintf("no NATS server at %s yet (%v): trying again", where, err))
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("no NATS server at %s after %v of trying: %w (last: %w); check that it runs, that host and port are right, and that no firewall is between",
				where, time.Since(began).Round(100*time.Millisecond), context.Cause(ctx), err)
		}
	}
}

// hopeless is the error to give up with, nil where trying again may help.
func hopeless(err error, creds Credentials) error {
	var (
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
		hostname x509.HostnameError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		alert    tls.AlertError
		path     *fs.PathError
		dns      *net.DNSError
	)
	switch text := strings.ToLower(err.Error()); {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), strings.Contains(text, "authorization violation"):
		return fmt.Errorf("%w: %s (%w)", ErrRefused, creds.hint(), err)
	case errors.As(err, &unknown), errors.As(err, &invalid), errors.As(err, &hostname), errors.As(err, &verify):
		return fmt.Errorf("its TLS certificate is not trusted: name the authority that it comes from (--tls-ca): %w", err)
	case errors.As(err, &alert), errors.As(err, &record), strings.Contains(text, "remote error: tls"):
		return fmt.Errorf("TLS: %w; does it want a client certificate (--tls-cert, --tls-key)?", err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("it does not speak TLS: use nats:// and no TLS files, or give it a certificate (%w)", err)
	case errors.Is(err, nats.ErrSecureConnRequired):
		return fmt.Errorf("it wants TLS: use tls:// and name its authority (--tls-ca) (%w)", err)
	case errors.As(err, &path): // the credentials file
		return err
	case errors.As(err, &dns), errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout), strings.Contains(text, "i/o timeout"):
		return nil
	}
	return nil
}

func (c Credentials) hint() string {
	switch {
	case c.CredsFile != "":
		return "check the credentials file " + c.CredsFile
	case c.User != "":
		return fmt.Sprintf("check the password of user %q", c.User)
	case c.Token != "":
		return "check the token"
	}
	return "it wants some, and none were given"
}

func (c *Conn) options(creds Credentials, config *tls.Config, kind, where string) []nats.Option {
	opts := []nats.Option{
		nats.Name(fmt.Sprintf("vlaring %s/%s %s", c.opt.Job, c.opt.Member, kind)),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait/2, reconnectWait/2),
		nats.FlusherTimeout(writeTimeout),
		nats.ReconnectOnFlusherError(),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsOut),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if kind == "bulk" {
				c.renew()
			}
			if err != nil {
				c.event("%s connection to %s lost (%v): reconnecting", kind, where, err)
			} else {
				c.event("%s connection to %s lost: reconnecting", kind, where)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.event("%s connection is back, with %s", kind, withoutSecrets(nc.ConnectedUrl()))
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			c.event("%s connection to %s is closed for good: %v", kind, where, nc.LastError())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			switch {
			case errors.Is(err, nats.ErrSlowConsumer) && sub != nil:
				c.event("slow consumer: messages on %s come faster than they are used, and some were dropped", sub.Subject)
			case sub != nil:
				c.event("%s connection, subject %s: %v", kind, sub.Subject, err)
			default:
				c.event("%s connection: %v", kind, err)
			}
		}),
	}
	if creds.Token != "" {
		opts = append(opts, nats.Token(creds.Token))
	}
	if creds.User != "" {
		opts = append(opts, nats.UserInfo(creds.User, creds.Password))
	}
	if creds.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(creds.CredsFile))
	}
	if config != nil {
		opts = append(opts, nats.Secure(config))
	}
	if c.opt.Broker != nil {
		opts = append(opts, nats.InProcessServer(c.opt.Broker.server))
	}
	return opts
}

// event reports, but not what Close itself brings about.
func (c *Conn) event(format string, v ...any) {
	if !c.closing.Load() {
		c.opt.Event(fmt.Sprintf(format, v...))
	}
}

// renew ends what waits for replies on the bulk connection: they are lost with
// it, and nats.go would let each request wait for its deadline.
func (c *Conn) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost()
	c.session, c.lost = context.WithCancel(context.Background())
}

// bulkRequest is a request on the bulk connection that fails with
// nats.ErrDisconnected as soon as the connection is lost.
func (c *Conn) bulkRequest(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	c.mu.Lock()
	session := c.session
	c.mu.Unlock()
	try, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(session, cancel)()
	m, err := c.bulk.RequestWithContext(try, subject, data)
	if err != nil && ctx.Err() == nil && session.Err() != nil {
		err = nats.ErrDisconnected
	}
	return m, err
}

// Bus carries control messages on the connection for them.
func (c *Conn) Bus() cluster.Bus { return bus{c.control} }

// adopt makes the Conn the one that closes x, unless x is closed before.
func (c *Conn) adopt(x interface{ Close() error }) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nats.ErrConnectionClosed
	}
	c.open[x] = struct{}{}
	return nil
}

func (c *Conn) release(x interface{ Close() error }) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, x)
}

// Close closes all that came from the Conn, sends what control messages are
// still on their way, and disconnects. It may be called twice.
func (c *Conn) Close() error {
	c.closing.Store(true)
	c.mu.Lock()
	was := c.closed
	c.closed = true
	open := make([]interface{ Close() error }, 0, len(c.open))
	for x := range c.open {
		open = append(open, x)
	}
	c.mu.Unlock()
	if was {
		return nil
	}
	close(c.done)
	for _, x := range open {
		x.Close()
	}
	if c.control.IsConnected() {
		c.control.FlushTimeout(writeTimeout)
	}
	c.control.Close()
	if c.bulk != nil {
		c.bulk.Close()
	}
	c.renew()
	return nil
}

// subscribe returns once the server knows of the subscription, or, while the
// server is away, at once: it learns of it when it is back.
func subscribe(nc *nats.Conn, subject string, h nats.MsgHandler) (*nats.Subscription, error) {
	sub, err := nc.Subscribe(subject, h)
	if err != nil {
		return nil, fmt.Errorf("subscribing to %s: %w", subject, err)
	}
	if err := nc.FlushTimeout(subscribeWait); err != nil && !nc.IsReconnecting() {
		sub.Unsubscribe()
		return nil, fmt.Errorf("subscribing to %s: %w", subject, err)
	}
	return sub, nil
}
