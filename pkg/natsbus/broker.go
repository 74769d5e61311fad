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
	Job    string            // whose subjects alone clients may use; empty: they may use any
	Token  string            // default: 128 random bits
	TLS    TLSFiles          // none: plain TCP
	Host   string            // default: loopback
	Port   int               // default: a free one
	Routes *Routes           // to other brokers; nil: none
	Event  func(text string) // told of the server's warnings and errors; may be nil
}

// Limits of an embedded server. Its clients are the members of one job, three
// connections each (package limits).
const (
	brokerMaxPayload    = 2 << 20 // a frame or a chunk of a blob with its header
	brokerMaxPending    = 128 << 20
	brokerMaxConns      = limits.Broker
	brokerMaxSubs       = 1024 // of one connection
	brokerAuthTimeout   = 5 * time.Second
	brokerWriteDeadline = 10 * time.Second
	brokerStartTimeout  = 10 * time.Second
)

// Broker is an embedded NATS server. It handles no signals and logs nothing.
type Broker struct {
	server *server.Server
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
	config, err := o.TLS.server()
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	guard, err := newGuard(o.Token, o.Job)
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
		NoSigs:        true,
		NoLog:         true,

		CustomClientAuthentication: guard,
		AlwaysEnableNonce:          true,
	}
	if o.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	scheme := "nats"
	if config != nil {
		scheme = "tls"
		opts.TLS, opts.TLSConfig, opts.TLSVerify, opts.TLSTimeout = true, config, o.TLS.CA != "", brokerAuthTimeout.Seconds()
	}
	if o.Routes != nil {
		if err := o.Routes.apply(opts, o.Token, o.TLS); err != nil {
			return nil, fmt.Errorf("broker: %w", err)
		}
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	log := &brokerLog{event: o.Event, secrets: strings.NewReplacer(o.Token, "…", routePassword(o.Token), "…")}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	fatal := log.fatal()
	for end := time.Now().Add(brokerStartTimeout); fatal == nil && !s.ReadyForConnections(brokerStartTimeout/100); fatal = log.fatal() {
		if time.Now().After(end) {
			fatal = fmt.Errorf("not ready after %v", brokerStartTimeout)
			break
		}
	}
	b := &Broker{server: s, token: o.Token}
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
	return b, nil
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
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// brokerLog passes warnings and errors on, and keeps the first fatal error:
// the server itself only logs it.
type brokerLog struct {
	event   func(string)
	secrets *strings.Replacer
	mu      sync.Mutex
	first   error
}

func (l *brokerLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *brokerLog) tell(format string, v []any) {
	if l.event != nil {
		l.event("broker: " + plain.Line(l.secrets.Replace(fmt.Sprintf(format, v...)), maxWords)) // clients' names are in it
	}
}

func (l *brokerLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf(format, v...)
	}
}
func (l *brokerLog) Errorf(format string, v ...any) { l.tell(format, v) }
func (l *brokerLog) Warnf(format string, v ...any)  { l.tell(format, v) }
func (l *brokerLog) Noticef(string, ...any)         {}
func (l *brokerLog) Debugf(string, ...any)          {}
func (l *brokerLog) Tracef(string, ...any)          {}
