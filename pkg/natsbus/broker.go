package natsbus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/netaddr"
	"github.com/vlaring/vlaring/internal/plain"
)

// BrokerOptions say how an embedded NATS server listens. The zero value is for
// the processes of one machine: loopback, a free port, a random token.
type BrokerOptions struct {
	Job    string   // whose subjects alone clients may use; empty: they may use any
	Token  string   // default: 128 random bits
	TLS    TLSFiles // none: plain TCP
	Host   string   // default: loopback
	Port   int      // default: a free one
	Routes *Routes  // to other brokers; nil: none

	// Revoked is a file of keys that do not count any more (Revocation); it need not
	// be there. Empty: all count.
	Revoked string
	Event   func(text string) // told of the server's warnings and errors; may be nil
}

// Limits of an embedded server. Its clients are the members of one job, three
// connections each (package limits).
const (
	brokerMaxPayload    = 2 << 20 // a frame or a chunk of a blob with its header
	brokerMaxPending    = 128 << 20
	brokerMaxConns      = limits.Broker + limits.Strangers + limits.Strangers
	brokerMaxSubs       = 1024 // of one connection
	brokerAuthTimeout   = 5 * time.Second
	brokerWriteDeadline = 10 * time.Second
	brokerStartTimeout  = 10 * time.Second

	// sweepEvery is how often connections are looked through that say nothing, or
	// whose key does not count any more.
	sweepEvery = 50 * time.Millisecond
)

// Broker is an embedded NATS server. It handles no signals and logs nothing.
type Broker struct {
	server *server.Server
	guard  *guard
	ended  chan struct{} // closed by Shutdown
	end    sync.Once
	wg     sync.WaitGroup
	url    string
	routes string // host:port for other brokers
	token  string
	others []string // further URLs
	name   string   // of its certificate
}

// StartBroker starts a server and returns once it accepts connections.
func StartBroker(o BrokerOptions) (*Broker, error) {
	if o.Host == "" {
		o.Host = netaddr.Loopback()
	}
	if o.Port < 0 || o.Port > 65535 {
		return nil, fmt.Errorf("broker: port %d: want 1 to 65535, or 0 for a free one", o.Port)
	}
	if o.Token == "" {
		o.Token = randomHex()
	}
	config, err := o.TLS.server(o.Event)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	guard, err := newGuard(o)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	opts := &server.Options{
		ServerName:    "vlaring-" + randomHex(),
		Host:          o.Host,
		Port:          o.Port,
		AuthTimeout:   brokerAuthTimeout.Seconds(),
		MaxPayload:    brokerMaxPayload,
		MaxPending:    brokerMaxPending,
		MaxConn:       brokerMaxConns,
		MaxSubs:       brokerMaxSubs,
		WriteDeadline: brokerWriteDeadline,
		PingInterval:  pingInterval,
		MaxPingsOut:   pingsOut,

		MaxClosedClients: 16, // that are remembered: of 10,000, its default, who knocks would have it hold 10 MB

		NoSigs: true,
		NoLog:  true,

		CustomClientAuthentication: guard,
		AlwaysEnableNonce:          true,
	}
	if o.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	scheme := "nats"
	opts.TLSTimeout = brokerAuthTimeout.Seconds()
	if config != nil {
		scheme = "tls"
		opts.TLS, opts.TLSConfig, opts.TLSVerify = true, config, o.TLS.CA != ""
	} else {
		// Frames need no encryption within the machine: there the ring's connection goes without,
		// once the one for control has proved whose the server is.
		opts.TLS, opts.AllowNonTLS = true, true
		if opts.TLSConfig, err = identityTLS(o.Token); err != nil {
			return nil, fmt.Errorf("broker: %w", err)
		}
	}
	if o.Routes != nil {
		if err := o.Routes.apply(opts, o.Token, o.TLS, o.Event); err != nil {
			return nil, fmt.Errorf("broker: %w", err)
		}
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	log := &brokerLog{event: o.Event, secrets: strings.NewReplacer(o.Token, "…", routePassword(o.Token), "…")}
	guard.tell = log.say
	guard.end = func(ids []uint64) {
		go func() { // the guard is asked by a connection, which has locks of the server's
			for _, id := range ids {
				s.DisconnectClientByID(id)
			}
		}()
	}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	fatal := log.fatal()
	for end := time.Now().Add(brokerStartTimeout); fatal == nil && !s.ReadyForConnections(brokerStartTimeout/100); fatal = log.fatal() {
		if time.Now().After(end) {
			fatal = fmt.Errorf("not ready after %v", brokerStartTimeout)
			break
		}
	}
	b := &Broker{server: s, guard: guard, token: o.Token, ended: make(chan struct{})}
	where := net.JoinHostPort(o.Host, strconv.Itoa(o.Port))
	if fatal == nil {
		if addr, ok := s.Addr().(*net.TCPAddr); ok {
			for i, host := range netaddr.Reached(o.Host) {
				url := scheme + "://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
				if i > 0 {
					b.others = append(b.others, url)
					continue
				}
				b.url = url
				if config != nil {
					b.name = nameFor(config.Certificates[0].Leaf, host)
				}
			}
		} else {
			fatal = errors.New("it has no address")
		}
	}
	if fatal == nil && o.Routes != nil {
		if addr := s.ClusterAddr(); addr != nil {
			b.routes = net.JoinHostPort(netaddr.Reached(opts.Cluster.Host)[0], strconv.Itoa(addr.Port))
		} else {
			fatal = errors.New("it has no address for other brokers")
		}
	}
	if fatal != nil {
		s.Shutdown()
		s.WaitForShutdown()
		if o.Routes != nil {
			where += fmt.Sprintf(" (for other brokers: %s)", net.JoinHostPort(opts.Cluster.Host, strconv.Itoa(o.Routes.Port)))
		}
		return nil, fmt.Errorf("broker on %s: %w (is the port in use, and the address this machine's?)", where, fatal)
	}
	b.wg.Go(b.sweep)
	return b, nil
}

// sweep closes connections that say nothing where they are too many, so that
// they keep no member out, and those whose key does not count any more.
func (b *Broker) sweep() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-b.ended:
			return
		case <-t.C:
		}
		// A list costs as much as there are connections: now and then, and when there are many new ones.
		if b.server.NumClients()-b.guard.members() <= limits.Strangers && n%20 > 0 {
			continue
		}
		list, err := b.server.Connz(&server.ConnzOptions{Limit: brokerMaxConns + 1})
		if err != nil {
			continue
		}
		there := make([]uint64, len(list.Conns))
		for i, c := range list.Conns {
			there[i] = c.Cid
		}
		for _, id := range b.guard.sweep(there, limits.Strangers) {
			b.server.DisconnectClientByID(id)
		}
	}
}

// Expel closes a worker's connections, and lets nobody in with its key again. Of
// one that has come with the token it does nothing: that is everybody's.
func (b *Broker) Expel(worker string) {
	for _, id := range b.guard.ban(worker) {
		b.server.DisconnectClientByID(id)
	}
}

// WorkerKey is the text of what one worker of this broker's job needs to prove; empty
// where it is for no job in particular.
func (b *Broker) WorkerKey(worker string) string {
	k, err := NewKey(b.token, b.guard.job, RoleWorker, worker, time.Now(), time.Time{})
	if err != nil {
		return ""
	}
	return k.String()
}

func randomHex() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// URL is where the broker is reached, without secrets. Of a broker that listens
// on all addresses it names the one of this machine's default route.
func (b *Broker) URL() string { return b.url }

// Others are further URLs: of one that listens on all addresses of both
// families, the one of IPv6.
func (b *Broker) Others() []string { return b.others }

// TLSName is the name that clients have to ask for (TLSFiles.Name), since its
// certificate has not the host of its URL; empty: none.
func (b *Broker) TLSName() string { return b.name }

// Clients is how many connections it has at present.
func (b *Broker) Clients() int { return b.server.NumClients() }

// dial is a connection within the process.
func (b *Broker) dial(context.Context) (net.Conn, error) { return b.server.InProcessConn() }

// Token is what clients and other brokers must show.
func (b *Broker) Token() string { return b.token }

// Shutdown closes all connections and waits until the broker is gone.
func (b *Broker) Shutdown() {
	b.end.Do(func() { close(b.ended) })
	b.wg.Wait()
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// brokerLog passes warnings and errors on, and keeps the first fatal error:
// the server itself only logs it. What somebody brings about again and again, by knocking,
// is told once and then counted.
type brokerLog struct {
	event   func(string)
	secrets *strings.Replacer
	mu      sync.Mutex
	repeats plain.Repeats
	first   error
}

func (l *brokerLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// say passes a line on, unless one of its kind was said a moment ago.
func (l *brokerLog) say(kind, text string) {
	if l.event == nil {
		return
	}
	l.mu.Lock()
	text = l.repeats.Tell(time.Now(), kind, plain.Line(l.secrets.Replace(text), maxWords)) // clients' names are in it
	l.mu.Unlock()
	if text != "" {
		l.event("broker: " + text)
	}
}

// tell is told of what the server says. Of a connection it begins with HOST:PORT - cid:N, of
// which the host alone makes another kind, as no other number does.
func (l *brokerLog) tell(format string, v []any) {
	text := fmt.Sprintf(format, v...)
	from, rest, ok := strings.Cut(text, " - cid:")
	if !ok {
		from, rest = "", text
	} else if _, said, ok := strings.Cut(rest, " - "); ok {
		rest = said
	}
	if strings.HasPrefix(rest, "authentication error") { // of which the guard knows more
		return
	}
	host, _, _ := net.SplitHostPort(from)
	l.say(host+" "+strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, rest), text)
}

func (l *brokerLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf(format, v...)
	}
}
func (l *brokerLog) Errorf(format string, v ...any) { l.tell(format, v) }
func (l *brokerLog) Warnf(format string, v ...any) {
	if !strings.Contains(format, "will not be verified") { // by authorities and names: brokers know each other by their key
		l.tell(format, v)
	}
}
func (l *brokerLog) Noticef(string, ...any) {}
func (l *brokerLog) Debugf(string, ...any)  {}
func (l *brokerLog) Tracef(string, ...any)  {}
