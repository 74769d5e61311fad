package natsbus

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
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

	"github.com/vlaring/vlaring/internal/plain"
)

// ringLink is a connection for frames to one server, from its CONNECT to its
// end. nats.go carries everything else; a frame would be copied by it on both
// ways, into a message that is garbage soon.
//
//	a slot of the ring ── writev ──> server ── read ──> a buffer of the pool
type ringLink struct {
	nc     net.Conn
	in     *protoReader // of the one who reads
	server string       // for people: without secrets

	maxPayload atomic.Int64
	silent     atomic.Int32 // pings sent since the server has said anything
	owed       atomic.Int32 // PINGs of the server that are not answered yet

	mu     sync.Mutex   // of those who write
	tcp    *net.TCPConn // nil where it is none
	line   []byte
	parts  [3][]byte
	vector net.Buffers
	ended  error // the first failed write: what follows it would make no sense
}

const (
	ringSID = 1 // the connection's only subscription

	// Up to so long, copying a frame behind its line is cheaper than a vector.
	gatherAbove = 4 << 10
)

var crlf = []byte("\r\n")

// serverInfo is what of an INFO matters to the ring.
type serverInfo struct {
	ID           string `json:"server_id"`
	Nonce        string `json:"nonce"`
	MaxPayload   int64  `json:"max_payload"`
	TLSRequired  bool   `json:"tls_required"`
	TLSAvailable bool   `json:"tls_available"`
	LameDuck     bool   `json:"ldm"`
}

// connectWords are the CONNECT line's.
type connectWords struct {
	Verbose  bool   `json:"verbose"`
	Pedantic bool   `json:"pedantic"`
	JWT      string `json:"jwt,omitempty"`
	NKey     string `json:"nkey,omitempty"`
	Sig      string `json:"sig,omitempty"`
	User     string `json:"user,omitempty"`
	Pass     string `json:"pass,omitempty"`
	Token    string `json:"auth_token,omitempty"`
	TLS      bool   `json:"tls_required"`
	Name     string `json:"name"`
	Lang     string `json:"lang"`
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Echo     bool   `json:"echo"`
}

// ringServer is a server to try.
type ringServer struct {
	host    string // host:port
	user    *url.Userinfo
	tls     bool   // its URL wants TLS
	tlsName string // name that its certificate must have
}

// ringServers lists where a connection for frames can go: where the control
// connection is now, and then the others that were named or that a server has
// told of. Where one connection is, the other is as near.
//
// A server that was only told of takes the same credentials as the named ones,
// and where it has a bare address, its certificate is for their name.
func ringServers(urls, connected string, known []string) []ringServer {
	now := ""
	if u, err := url.Parse(connected); err == nil {
		now = u.Host
	}
	named := map[string]*url.Userinfo{}
	var user *url.Userinfo
	name := ""
	for _, s := range strings.Split(urls, ",") {
		if s = strings.TrimSpace(s); !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil {
			continue // ValidServers has refused it
		}
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(nats.DefaultPort))
		}
		named[u.Host] = u.User
		if user == nil {
			user = u.User
		}
		if name == "" && net.ParseIP(u.Hostname()) == nil {
			name = u.Hostname()
		}
	}
	var list []ringServer
	for _, s := range known {
		u, err := url.Parse(s)
		if err != nil {
			continue
		}
		r := ringServer{host: u.Host, tls: u.Scheme == "tls", tlsName: u.Hostname()}
		own, given := named[u.Host]
		if r.user = own; !given {
			if r.user = user; net.ParseIP(r.tlsName) != nil && name != "" {
				r.tlsName = name
			}
		}
		list = append(list, r)
		if u.Host == now {
			list[0], list[len(list)-1] = list[len(list)-1], list[0]
		}
	}
	return list
}

// dialRing connects to one server and makes itself known.
func (c *Conn) dialRing(ctx context.Context, s ringServer) (_ *ringLink, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	l := &ringLink{server: s.host}
	made := c.control.Stats().Reconnects
	if c.opt.Broker != nil {
		l.nc, err = c.opt.Broker.dial(ctx)
	} else {
		l.nc, err = new(net.Dialer).DialContext(ctx, "tcp", s.host)
	}
	if err != nil {
		return nil, err
	}
	if c.bare(s) {
		if err := c.listens(ctx, made); err != nil {
			l.nc.Close()
			return nil, err
		}
	}
	raw := l.nc
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	if err = c.greet(l, s); err != nil {
		raw.Close()
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
			err = cause
		}
		return nil, err
	}
	if t, ok := raw.(*net.TCPConn); ok && sameHost(t) {
		t.SetWriteBuffer(hostBuffer) // best effort
	}
	l.tcp, _ = l.nc.(*net.TCPConn)
	return l, nil
}

// bare says whether the ring's connection to a server goes without encryption: within
// the machine the words are read by nobody else.
func (c *Conn) bare(s ringServer) bool { return c.proves && loopback(s.host) }

// listens makes sure that what has accepted a connection is the broker, which does
// not prove it there: the connection for control, on which it has, was made before
// and lives. So the broker has the port, and nobody else has had it meanwhile.
func (c *Conn) listens(ctx context.Context, made uint64) error {
	err := c.control.FlushWithContext(ctx)
	if err == nil && c.control.Stats().Reconnects != made {
		err = nats.ErrDisconnected
	}
	return err
}

// hostBuffer is the socket's room for what is sent within a host. Left to
// itself the system makes it so large that a frame has left the cache when the
// server comes to read it, and must be fetched again: a seventh of the processor
// time a byte.
const hostBuffer = 256 << 10

func sameHost(t *net.TCPConn) bool {
	a, ok := t.LocalAddr().(*net.TCPAddr)
	b, fine := t.RemoteAddr().(*net.TCPAddr)
	return ok && fine && (b.IP.IsLoopback() || a.IP.Equal(b.IP))
}

// greet takes the server's INFO, encrypts where one of both wants that, and
// shows the credentials. It returns when the server has taken them.
func (c *Conn) greet(l *ringLink, s ringServer) error {
	secure := c.opt.Broker == nil && (s.tls || c.config != nil && !c.bare(s))
	encrypt := func() error {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if c.config != nil {
			config = c.config()
		}
		if config.ServerName == "" {
			config.ServerName = s.tlsName
		}
		t := tls.Client(l.nc, config)
		l.nc = t
		l.in = newProtoReader(t)
		return t.Handshake()
	}
	l.in = newProtoReader(l.nc)
	if secure && c.tlsFirst {
		if err := encrypt(); err != nil {
			return err
		}
	}
	v, args, err := l.in.next()
	if err != nil {
		return err
	}
	if v != verbInfo {
		return fmt.Errorf("%w: it begins with %v instead of INFO", errProto, v)
	}
	info, err := l.info(args)
	if err != nil {
		return err
	}
	if !c.tlsFirst || !secure {
		if l.in.buffered() > 0 { // it could be anyone's, and would be taken for what came encrypted
			return fmt.Errorf("%w: more than INFO before CONNECT", errProto)
		}
		if secure && !info.TLSRequired && !info.TLSAvailable {
			return nats.ErrSecureConnWanted
		}
		if secure = secure || info.TLSRequired; secure {
			if err := encrypt(); err != nil {
				return err
			}
		}
	}
	hello, err := c.hello(s, info, secure)
	if err != nil {
		return err
	}
	if _, err := l.nc.Write(hello); err != nil {
		return err
	}
	for {
		switch v, args, err := l.in.next(); {
		case err != nil:
			return err
		case v == verbErr:
			return serverError(args)
		case v == verbInfo:
			if _, err := l.info(args); err != nil {
				return err
			}
		case v == verbPing:
			if _, err := l.nc.Write([]byte("PONG\r\n")); err != nil {
				return err
			}
		case v == verbPong:
			return nil
		case v != verbOK:
			return fmt.Errorf("%w: %v before the answer to CONNECT", errProto, v)
		}
	}
}

func (l *ringLink) info(args []byte) (serverInfo, error) {
	var info serverInfo
	if err := json.Unmarshal(args, &info); err != nil {
		return info, fmt.Errorf("%w: INFO: %w", errProto, err)
	}
	if info.MaxPayload > 0 {
		l.maxPayload.Store(info.MaxPayload)
	}
	return info, nil
}

// hello is CONNECT and the PING whose answer says that the credentials were taken.
func (c *Conn) hello(s ringServer, info serverInfo, secure bool) ([]byte, error) {
	w := connectWords{TLS: secure, Name: c.clientName("ring"), Lang: "go", Version: nats.Version, Protocol: 1, Echo: true}
	var err error
	if s.user == nil {
		w.User, w.Pass = c.creds.User, c.creds.Password
	} else if pass, ok := s.user.Password(); ok {
		w.User, w.Pass = s.user.Username(), pass
	} else {
		w.Token = s.user.Username()
	}
	switch {
	case c.creds.Key == nil && c.creds.Token == "" || s.user != nil:
	case c.shows || c.opt.Broker != nil:
		w.Token = c.creds.Token
	case info.Nonce == "":
		return nil, nats.ErrNkeysNotSupported
	default:
		if w.NKey, w.Sig, err = c.creds.prove([]byte(info.Nonce)); err != nil {
			return nil, err
		}
	}
	if c.creds.CredsFile != "" { // read anew each time: somebody may renew it
		var o nats.Options
		if err := nats.UserCredentials(c.creds.CredsFile)(&o); err != nil {
			return nil, err
		}
		if w.JWT, err = o.UserJWT(); err != nil {
			return nil, err
		}
		sig, err := o.SignatureCB([]byte(info.Nonce))
		if err != nil {
			return nil, err
		}
		w.Sig = base64.RawURLEncoding.EncodeToString(sig)
	}
	b, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	return append(append([]byte("CONNECT "), b...), "\r\nPING\r\n"...), nil
}

// serverError is the error of a server's -ERR, with its words as they may be printed.
func serverError(args []byte) error {
	text := plain.Line(strings.Trim(string(args), " '"), maxWords)
	low := strings.ToLower(text)
	for prefix, err := range map[string]error{
		"authorization violation":        nats.ErrAuthorization,
		"user authentication expired":    nats.ErrAuthExpired,
		"user authentication revoked":    nats.ErrAuthRevoked,
		"account authentication expired": nats.ErrAccountAuthExpired,
		"permissions violation":          nats.ErrPermissionViolation,
	} {
		if strings.HasPrefix(low, prefix) {
			return fmt.Errorf("the server says: %s (%w)", text, err)
		}
	}
	return fmt.Errorf("the server says: %s", text)
}

// publish writes one message. The frame may change when it returns.
func (l *ringLink) publish(prefix, peer, suffix string, frame []byte) error {
	l.mu.Lock()
	b := append(append(append(l.line[:0], prefix...), peer...), suffix...)
	b = append(strconv.AppendInt(b, int64(len(frame)), 10), crlf...)
	var err error
	if l.tcp != nil && len(frame) > gatherAbove {
		err = l.gather(b, frame)
	} else { // TLS copies anyway, and a pipe would give the server three reads
		b = append(append(b, frame...), crlf...)
		err = l.write(b)
	}
	l.line = b[:0]
	l.mu.Unlock()
	l.answer()
	return err
}

// gather writes a line and a frame in one system call, from where they are. As
// write, it is for those who hold l.mu.
func (l *ringLink) gather(line, frame []byte) error {
	if l.ended != nil {
		return l.ended
	}
	l.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	l.parts = [3][]byte{line, frame, crlf}
	l.vector = l.parts[:]
	_, err := l.vector.WriteTo(l.tcp)
	l.vector, l.parts = nil, [3][]byte{}
	return l.written(err)
}

func (l *ringLink) write(b []byte) error {
	if l.ended != nil {
		return l.ended
	}
	l.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := l.nc.Write(b)
	return l.written(err)
}

// close closes the connection, for err unless it had another reason before,
// which it returns.
func (l *ringLink) close(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended = err
	}
	l.nc.Close()
	return l.ended
}

func (l *ringLink) written(err error) error {
	if err != nil {
		l.ended = err
		l.nc.Close() // who reads will notice
	}
	return err
}

// say writes a line of control.
func (l *ringLink) say(text string) error {
	l.mu.Lock()
	err := l.write([]byte(text))
	l.mu.Unlock()
	l.answer()
	return err
}

// answer answers the server's PINGs, unless somebody else is writing, who does
// it then: whoever reads must not wait for a write.
func (l *ringLink) answer() {
	for l.owed.Load() > 0 && l.mu.TryLock() {
		for n := l.owed.Swap(0); n > 0; n-- {
			l.write([]byte("PONG\r\n"))
		}
		l.mu.Unlock()
	}
}
