package serve

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"math"
	"net"
	"time"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/trained"
)

// Options say where a server listens, who may come, and how much.
type Options struct {
	Listen string // host:port; default 127.0.0.1:8000. Elsewhere than on this machine it wants Key or TLS
	Key    string // that clients show; empty: none is asked for
	TLS    Files  // of the server's certificate

	Protocol string   // one of Protocols; default openpi
	Execute  int      // actions of a chunk that are done before the next question; 0: all
	Ensemble bool     // actions are joined from all chunks that reach their step
	Rename   []string // FROM=TO: what a client calls FROM is the card's TO
	Spec     string   // conventions that vla-eval compares: position=delta_xyz,…

	Clients  int           // at once; default 64
	Together int           // questions that the model answers at once; default 16, at most trained.MaxTogether
	Message  int64         // bytes of an observation; default 32 MiB
	Rate     float64       // questions a second of a client; 0: no limit
	Wait     time.Duration // for an answer; default 30 s
	Idle     time.Duration // between messages; default 1 h
	Transfer time.Duration // of one message, either way; default 30 s
	Drain    time.Duration // for what is under way at the end; default 10 s

	Log func(format string, args ...any) // nil: nowhere
}

// Files name PEM files. With CA, clients show a certificate that comes from it.
type Files struct{ CA, Cert, Key string }

func (o Options) withDefaults() Options {
	o.Listen, o.Protocol = cmp.Or(o.Listen, "127.0.0.1:8000"), cmp.Or(o.Protocol, protocols[0].name)
	o.Clients, o.Together, o.Message = cmp.Or(o.Clients, 64), cmp.Or(o.Together, 16), cmp.Or(o.Message, 32<<20)
	o.Wait, o.Idle = cmp.Or(o.Wait, 30*time.Second), cmp.Or(o.Idle, time.Hour)
	o.Transfer, o.Drain = cmp.Or(o.Transfer, 30*time.Second), cmp.Or(o.Drain, 10*time.Second)
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return o
}

// minRate is one question in 17 minutes; what is rarer is a mistake.
const minRate = 1e-3

// check refuses what cannot be, and reads the certificates; nil: there is no TLS.
func (o Options) check() (*tls.Config, error) {
	host, _, err := usage.Listen("--listen", o.Listen)
	if err != nil {
		return nil, err
	}
	for _, x := range []struct {
		flag           string
		v, least, most int
	}{{"clients", o.Clients, 1, 4096}, {"batch", o.Together, 1, trained.MaxTogether}, {"max-message", int(o.Message >> 20), 1, 1024}} {
		if err := usage.Within(x.flag, x.v, x.least, x.most); err != nil {
			return nil, err
		}
	}
	if o.Rate != 0 && !(o.Rate >= minRate && o.Rate <= math.MaxFloat64) {
		return nil, usage.Errorf("--rate %v: want questions a second, from %g, or 0 for no limit", o.Rate, minRate)
	}
	f := o.TLS
	switch {
	case (f.Cert == "") != (f.Key == ""):
		return nil, usage.Errorf("--tls-cert and --tls-key go together")
	case f.CA != "" && f.Cert == "":
		return nil, usage.Errorf("--tls-ca wants --tls-cert and --tls-key: a server without a certificate asks nobody for one")
	case f.Cert == "" && o.Key == "" && !here(host):
		return nil, usage.Errorf("--listen %s lets others than this machine ask: give --key-file, or --tls-cert and --tls-key, or listen on 127.0.0.1", o.Listen)
	case f.Cert == "":
		return nil, nil
	}
	return f.load()
}

// here says that only this machine reaches host.
func here(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (f Files) load() (*tls.Config, error) {
	cert, err := regular.Read(f.Cert, 16<<20)
	if err != nil {
		return nil, usage.Errorf("--tls-cert: %w", err)
	}
	key, err := regular.Read(f.Key, 16<<20)
	if err != nil {
		return nil, usage.Errorf("--tls-key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, usage.Errorf("--tls-cert %s with --tls-key %s: %w", f.Cert, f.Key, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if f.CA == "" {
		return c, nil
	}
	b, err := regular.Read(f.CA, 16<<20)
	if err != nil {
		return nil, usage.Errorf("--tls-ca: %w", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(b) {
		return nil, usage.Errorf("--tls-ca %s: holds no PEM certificate", f.CA)
	}
	return c, nil
}
