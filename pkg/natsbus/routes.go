package natsbus

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/vlaring/vlaring/internal/netaddr"
)

// Routes join brokers with the same token to one cluster: whoever is connected
// to one of them reaches all. Each broker connects to each other one, so that a
// message takes at most one hop between brokers.
//
//	worker ─ broker ═══════ broker ─ worker
//	             ╚═ broker ═╝              ═ route
//	                  │
//	             coordinator
type Routes struct {
	Host string   // where this one listens for others; default: the address from which Join[0] is reached, else loopback
	Port int      // default: a free one
	Join []string // host:port of others, of which one suffices: it tells of the rest
}

const (
	routeUser    = "broker"
	routeCluster = "vlaring"
	routeRetries = 1 << 30 // of a connection that was made by hearsay: it is tried for ever, as the named ones are
	routePing    = 2 * time.Second
)

// apply sets up the server's side of routes. TLS on routes goes both ways: a
// broker is client and server to others.
func (r *Routes) apply(opts *server.Options, token string, files TLSFiles, event func(string)) error {
	c := &opts.Cluster
	c.Name, c.Host, c.Port = routeCluster, r.Host, r.Port
	c.Username, c.Password = routeUser, routePassword(token)
	c.AuthTimeout, c.WriteDeadline = brokerAuthTimeout.Seconds(), brokerWriteDeadline
	c.PingInterval, c.MaxPingsOut = routePing, pingsOut
	c.ConnectRetries = routeRetries
	c.NoAdvertise = true                       // clients are not told of other brokers' ports, which may be loopback's
	c.Compression.Mode = server.CompressionOff // gradients do not compress
	if r.Port < 0 || r.Port > 65535 {
		return fmt.Errorf("port %d for other brokers: want 1 to 65535, or 0 for a free one", r.Port)
	}
	if r.Port == 0 {
		c.Port = server.RANDOM_PORT
	}
	for _, s := range r.Join {
		host, port, err := net.SplitHostPort(s)
		if n, e := strconv.Atoi(port); err != nil || host == "" || e != nil || n < 1 || n > 65535 {
			return fmt.Errorf("address %.80q of another broker: want host:port", s)
		}
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: s, User: url.UserPassword(routeUser, routePassword(token))})
	}
	if c.Host == "" {
		c.Host = netaddr.Loopback()
		if len(r.Join) > 0 {
			c.Host = netaddr.Leading(r.Join[0])
		}
	}
	if host := netaddr.Reached(c.Host)[0]; host != c.Host {
		c.Advertise = host
	}
	c.TLSTimeout = brokerAuthTimeout.Seconds()
	if files.empty() {
		var err error
		c.TLSConfig, err = amongBrokers(token)
		return err
	}
	config, err := files.server(event)
	if err != nil {
		return err
	}
	client, err := files.client(event)
	if err != nil {
		return err
	}
	asClient := client()
	config.RootCAs, config.ServerName = asClient.RootCAs, asClient.ServerName
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &client().Certificates[0], nil // a broker has one
	}
	c.TLSConfig = config
	return nil
}

// RouteAddr is where other brokers join this one, as host:port; empty where it
// has no routes.
func (b *Broker) RouteAddr() string { return b.routes }

// Peers is how many other brokers it is connected to.
func (b *Broker) Peers() int { return b.server.NumRemotes() }
