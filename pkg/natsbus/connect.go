package natsbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// Credentials prove to a server who one is. Of Token, Key, User with Password, and
// CredsFile a server wants one.
//
// Without TLS files, a Token and a Key are for a broker of this package, which
// proves first that it knows the token. The token is not shown to it, and to nobody
// else but a server that has a certificate of its own and asks for no proof.
type Credentials struct {
	Token     string
	Key       *Key
	Revoked   string // file of keys that do not count any more, beside that of the token; for a broker
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
	Chunk  int               // cluster.chunk_bytes, which the server must let through; 0: not known yet

	// Moved, where it is not nil, is asked before each connection for the URL where the
	// server is now; empty: where it was. A broker that finds its port taken when it
	// comes back has another one.
	Moved func() string

	// Trouble is told, once each, of what keeps the job from going on or at a
	// crawl until somebody mends it; nil: Event.
	Trouble func(text string)
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

	controlBuffer = 1 << 20            // control messages kept while the server is away
	minPayload    = limits.Message     // what the server must let through: NATS's default
	connections   = limits.Connections // of a Conn, with that of its Network
)

// Conn is a member's connection to the server of its job.
type Conn struct {
	opt      ConnOptions
	urls     string // as named, with secrets
	creds    Credentials
	config   func() *tls.Config // nil: no TLS, or by the URL and the system's authorities
	proves   bool               // the server, by the token's key: see identity
	tlsFirst bool               // the server wants TLS before it says anything
	shows    bool               // the token itself: the server asks for no proof

	control *nats.Conn
	heard   atomic.Int64 // when a control message came last, in nanoseconds of this process's clock
	began   time.Time    // of that clock
	bulk    *nats.Conn
	done    chan struct{}
	closing atomic.Bool
	met     atomic.Bool     // it was connected once
	fate    context.Context // ends, with the cause, when the Conn can never do again what it is for
	doom    context.CancelCauseFunc
	telling sync.Mutex // of what follows
	cuts    cuts
	told    string // why the server was not to be had again, last
	denials refusals

	mu     sync.Mutex
	closed bool
	open   map[interface{ Close() error }]struct{} // networks and blobs not yet closed

	session context.Context // of the bulk connection: done when it is lost, replaced at once
	lost    context.CancelFunc
}

// Connect connects to a NATS server. A server that is not there yet is tried
// until ctx ends; one that refuses the credentials, that TLS does not trust,
// that forbids the job's subjects or that does not let its messages through,
// fails at once. urls may list several servers, separated by commas.
func Connect(ctx context.Context, urls string, creds Credentials, opt ConnOptions) (*Conn, error) {
	if err := cluster.ValidName("job name", opt.Job); err != nil {
		return nil, err
	}
	if err := cluster.ValidName("member name", opt.Member); err != nil {
		return nil, err
	}
	if opt.Event == nil {
		opt.Event = func(string) {}
	}
	if opt.Trouble == nil {
		opt.Trouble = opt.Event
	}
	if opt.Broker != nil {
		urls, creds = strings.Replace(opt.Broker.url, "tls://", "nats://", 1), Credentials{Token: opt.Broker.token} // no wire, no TLS
	} else if err := ValidServers(urls); err != nil {
		return nil, err
	}
	if k := creds.Key; k != nil {
		var err error
		if opt.Member, err = k.member(opt.Job, opt.Member); err != nil {
			return nil, err
		}
	}
	config, err := creds.TLS.client(opt.Event)
	if err != nil {
		return nil, err
	}
	c := &Conn{began: time.Now(), opt: opt, urls: urls, creds: creds, config: config, done: make(chan struct{}), open: map[interface{ Close() error }]struct{}{}}
	if public := creds.broker(); public != nil && opt.Broker == nil && config == nil && !strings.Contains(urls, "tls://") {
		c.proves, c.config = true, func() *tls.Config {
			return known(public, func(err error) {
				if c.met.Load() { // nats.go tells nobody of such a try later on
					c.notBack("control", withoutSecrets(urls), err)
				}
			})
		}
	}
	c.session, c.lost = context.WithCancel(context.Background())
	c.fate, c.doom = context.WithCancelCause(context.Background())
	if c.control, err = c.dial(ctx, "control", nats.ReconnectBufSize(controlBuffer)); err != nil {
		return nil, err
	}
	// What bulk a lost connection swallowed is repeated by its sender; buffered
	// as well it would only come late.
	if c.bulk, err = c.dial(ctx, "bulk", nats.ReconnectBufSize(-1)); err != nil {
		c.Close()
		return nil, err
	}
	c.met.Store(true)
	if err = c.fits(); err == nil {
		err = c.mayUse(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) dial(ctx context.Context, kind string, extra nats.Option) (*nats.Conn, error) {
	began, where, said := time.Now(), withoutSecrets(c.urls), ""
	var last error
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		limit := dialTimeout
		if end, ok := ctx.Deadline(); ok {
			limit = max(min(limit, time.Until(end)), time.Millisecond)
		}
		nc, err := nats.Connect(c.urls, append(c.options(kind, where), extra, nats.Timeout(limit))...)
		if err == nil {
			return nc, nil
		}
		if c.control == nil && (c.otherTLS(err) || c.otherProof(err)) {
			continue
		}
		if final := hopeless(err, c.creds); final != nil {
			return nil, fmt.Errorf("NATS server at %s: %w", where, final)
		}
		if !full(last) || !hungUp(err) { // it is, though it does not say so each time
			last = err
		}
		if now := obstacle(where, last); now != said {
			said = now
			c.opt.Event(fmt.Sprintf("%s (%v): trying again", now, last))
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("%s after %v of trying: %w (last: %w); %s",
				obstacle(where, last), time.Since(began).Round(100*time.Millisecond), context.Cause(ctx), last, advice(last))
		}
	}
}

// otherTLS decides, by the error of a try, whether TLS is to be tried the other
// way: at once, or after the server's INFO. A server that waits for TLS says
// nothing, and one that does not wait answers with an INFO in plain text.
func (c *Conn) otherTLS(err error) bool {
	var record tls.RecordHeaderError
	if c.opt.Broker != nil || c.config == nil && !strings.Contains(c.urls, "tls://") {
		return false
	}
	if c.tlsFirst {
		c.tlsFirst = !(silent(err) || errors.As(err, &record))
		return !c.tlsFirst && !silent(err)
	}
	c.tlsFirst = silent(err)
	return c.tlsFirst
}

// otherProof says whether the token may be shown where no proof is asked for: to a
// server that TLS has made sure of.
func (c *Conn) otherProof(err error) bool {
	if c.shows || c.proves || c.config == nil && !strings.Contains(c.urls, "tls://") || !errors.Is(err, nats.ErrNkeysNotSupported) {
		return false
	}
	c.shows = true
	return true
}

// fits says whether the server lets the job's largest messages through.
func (c *Conn) fits() error {
	where, got := withoutSecrets(c.urls), c.bulk.MaxPayload()
	frame := allreduce.FrameBytes(c.opt.Chunk)
	switch {
	case got < minPayload:
		return fmt.Errorf("NATS server at %s: its max_payload is %d bytes: set it to at least %d", where, got, minPayload)
	case c.opt.Chunk > 0 && int64(frame) > got:
		return tooLarge(where, frame, got)
	}
	return nil
}

// tooLarge is the error of a frame that a server does not take.
func tooLarge(where string, frame int, maxPayload int64) error {
	fits := (maxPayload - int64(allreduce.FrameBytes(0))) / 4 * 4
	return fmt.Errorf("NATS server at %s: its max_payload is %d bytes, and a frame of the ring has %d: set cluster.chunk_bytes to at most %d (it is %d), or the server's max_payload to at least %d",
		where, maxPayload, frame, fits, frame-allreduce.FrameBytes(0), frame)
}

// clientName is how a server lists one of the connections.
func (c *Conn) clientName(kind string) string {
	name := fmt.Sprintf("vlaring %s/%s %s", c.opt.Job, c.opt.Member, kind)
	if c.creds.Key != nil {
		name += keyIs + c.creds.Key.claims()
	}
	return name
}

// inbox is where replies come in.
func (c *Conn) inbox() string {
	if k := c.creds.Key; k != nil && k.asks() || c.opt.Member == AskMember {
		return askedPrefix(c.opt.Job, c.opt.Member)
	}
	return inboxPrefix(c.opt.Job, c.opt.Member)
}

// Dial is where nats.go gets its connections from.
func (c *Conn) Dial(network, address string) (net.Conn, error) {
	if moved := c.moved(); moved != "" {
		address = moved
	}
	return (&net.Dialer{Timeout: dialTimeout}).Dial(network, address)
}

// moved is the host:port where the server is now; empty: where it was.
func (c *Conn) moved() string {
	if c.opt.Moved == nil {
		return ""
	}
	u, err := url.Parse(c.opt.Moved())
	if err != nil || u.Port() == "" {
		return ""
	}
	return u.Host
}

func (c *Conn) options(kind, where string) []nats.Option {
	creds := c.creds
	opts := []nats.Option{
		nats.Name(c.clientName(kind)),
		nats.CustomInboxPrefix(c.inbox()),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // else the second one ends it: see refusals
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait/2, reconnectWait/2),
		nats.FlusherTimeout(writeTimeout),
		nats.ReconnectOnFlusherError(),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsOut),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if kind == "bulk" {
				c.renew()
				c.cut("bulk", where)
			}
			if err != nil {
				c.comes(kind, "%s connection to %s lost (%v): reconnecting", kind, where, err)
			} else {
				c.comes(kind, "%s connection to %s lost: reconnecting", kind, where)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.admitted()
			c.comes(kind, "%s connection is back, with %s", kind, withoutSecrets(nc.ConnectedUrl()))
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			c.gone(kind, where, nc.LastError())
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			c.admitted() // the server that has refused these credentials is gone
			c.notBack(kind, where, err)
		}),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			switch {
			case refusal(err):
				if c.refused(kind, where, err) {
					go nc.Close() // it would knock for ever
				}
			case errors.Is(err, nats.ErrPermissionViolation):
				c.denied(where, err)
			case errors.Is(err, nats.ErrSlowConsumer) && sub != nil:
				c.event("slow consumer: messages on %s come faster than they are used, and some were dropped", sub.Subject)
			case sub != nil:
				c.event("%s connection, subject %s: %v", kind, sub.Subject, err)
			default:
				c.event("%s connection: %v", kind, err)
			}
		}),
	}
	switch {
	case creds.Key != nil && c.opt.Broker == nil:
		opts = append(opts, nats.Nkey(creds.Key.Public(), creds.sign))
	case creds.Token == "":
	case c.shows || c.opt.Broker != nil:
		opts = append(opts, nats.Token(creds.Token))
	default:
		public, _, err := creds.prove(nil)
		if err != nil { // no 32 bytes are a bad key
			panic("natsbus: " + err.Error())
		}
		opts = append(opts, nats.Nkey(public, creds.sign))
	}
	if creds.User != "" {
		opts = append(opts, nats.UserInfo(creds.User, creds.Password))
	}
	if creds.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(creds.CredsFile))
	}
	if c.config != nil {
		opts = append(opts, nats.Secure(c.config()))
		if !c.proves {
			opts = append(opts, c.renewed)
		}
	}
	if c.opt.Moved != nil {
		opts = append(opts, nats.SetCustomDialer(c))
	}
	if c.tlsFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	if c.opt.Broker != nil {
		opts = append(opts, nats.InProcessServer(c.opt.Broker.server))
	}
	return opts
}

// renewed has each connection look at the TLS files as they are then.
func (c *Conn) renewed(o *nats.Options) error {
	o.RootCAsCB = func() (*x509.CertPool, error) { return c.config().RootCAs, nil }
	if len(c.config().Certificates) > 0 {
		o.TLSCertCB = func() (tls.Certificate, error) { return c.config().Certificates[0], nil }
	}
	return nil
}

// event reports, but not what Close, or the end of a Conn that is refused, brings about.
func (c *Conn) event(format string, v ...any) {
	if !c.closing.Load() && !errors.Is(c.Err(), cluster.ErrRefused) {
		c.opt.Event(plain.Line(fmt.Sprintf(format, v...), maxWords)) // servers' words are in it
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
	defer context.AfterFunc(c.fate, cancel)()
	m, err := c.bulk.RequestWithContext(try, subject, data)
	if e := c.Err(); err != nil && e != nil {
		return nil, e
	}
	if err != nil && ctx.Err() == nil && session.Err() != nil {
		err = nats.ErrDisconnected
	}
	return m, err
}

// quietTime is how long control messages may stay away without a sign that the
// network has parted: several heartbeats.
const quietTime = time.Second

// hears notes that a control message has come. After a time without any the
// network had parted, or this process stood still. The system then sends what
// was on its way on the other connections only after a pause as long as that
// time was: the ring's must answer at once, or is made anew.
func (c *Conn) hears() {
	now := int64(time.Since(c.began))
	if last := c.heard.Swap(now); last == 0 || now-last < int64(quietTime) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for x := range c.open {
		if n, ok := x.(*network); ok {
			go n.verify()
		}
	}
}

// Bus carries control messages on the connection for them.
func (c *Conn) Bus() cluster.Bus { return bus{c} }

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
	c.doom(nats.ErrConnectionClosed)
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
	if err := nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) && subjectOf(err) == strconv.Quote(subject) { // which came before the answer
		sub.Unsubscribe()
		return nil, fmt.Errorf("subscribing to %s: %w", subject, err)
	}
	return sub, nil
}
