package natsbus

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// BrokerOptions say how an embedded NATS server listens. The zero value is for
// the processes of one machine: loopback, a free port, a random token.
type BrokerOptions struct {
	Token string            // default: 128 random bits
	TLS   TLSFiles          // none: plain TCP
	Host  string            // default 127.0.0.1
	Port  int               // default: a free one
	Event func(text string) // told of the server's warnings and errors; may be nil
}

// Limits of an embedded server. Its clients are the members of one job, two
// connections each.
const (
	brokerMaxPayload    = 2 << 20 // a frame or a chunk of a blob with its header
	brokerMaxPending    = 128 << 20
	brokerMaxConns      = 4096
	brokerMaxSubs       = 1024 // of one connection
	brokerAuthTimeout   = 5 * time.Second
	brokerWriteDeadline = 10 * time.Second
	brokerStartTimeout  = 10 * time.Second
)

// Broker is an embedded NATS server. It handles no signals and logs nothing.
type Broker struct {
	server *server.Server
	url    string
	token  string
}

// StartBroker starts a server and returns once it accepts connections.
func StartBroker(o BrokerOptions) (*Broker, error) {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Port < 0 || o.Port > 65535 {
		return nil, fmt.Errorf("broker: port %d: want 1 to 65535, or 0 for a free one", o.Port)
	}
	if o.Token == "" {
		var b [16]byte
		rand.Read(b[:])
		o.Token = hex.EncodeToString(b[:])
	}
	config, err := o.TLS.server()
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	opts := &server.Options{
		ServerName:    "vlaring",
		Host:          o.Host,
		Port:          o.Port,
		Authorization: o.Token,
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
	}
	if o.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	scheme := "nats"
	if config != nil {
		scheme = "tls"
		opts.TLS, opts.TLSConfig, opts.TLSVerify, opts.TLSTimeout = true, config, o.TLS.CA != "", brokerAuthTimeout.Seconds()
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	log := &brokerLog{event: o.Event}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	fatal := log.fatal()
	if fatal == nil && !s.ReadyForConnections(brokerStartTimeout) {
		fatal = fmt.Errorf("not ready after %v", brokerStartTimeout)
	}
	addr, ok := s.Addr().(*net.TCPAddr)
	if fatal == nil && !ok {
		fatal = errors.New("it has no address")
	}
	if fatal != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("broker on %s: %w (is the port in use, and the address this machine's?)", net.JoinHostPort(o.Host, strconv.Itoa(o.Port)), fatal)
	}
	host := o.Host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = reachable()
	}
	return &Broker{server: s, token: o.Token, url: scheme + "://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))}, nil
}

// URL is where the broker is reached, without secrets. Of a broker that listens
// on all addresses it names the one of this machine's default route.
func (b *Broker) URL() string { return b.url }

// Token is what clients must show.
func (b *Broker) Token() string { return b.token }

// Shutdown closes all connections and waits until the broker is gone.
func (b *Broker) Shutdown() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// reachable is this machine's address on its default route. No packet is sent:
// connecting a UDP socket only asks the routing table.
func reachable() string {
	c, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return host
}

// brokerLog passes warnings and errors on, and keeps the first fatal error:
// the server itself only logs it.
type brokerLog struct {
	event func(string)
	mu    sync.Mutex
	first error
}

func (l *brokerLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *brokerLog) tell(format string, v []any) {
	if l.event != nil {
		l.event("broker: " + fmt.Sprintf(format, v...))
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
