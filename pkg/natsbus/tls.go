package natsbus

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/vlaring/vlaring/internal/regular"
)

// TLSFiles name PEM files. Cert and Key are one's own, and go together. CA is
// what the other side's certificate must come from: without it a broker asks
// its clients for none, and a client trusts the system's authorities and its
// own certificate, so that workers reach the broker of the coordinator that
// started them.
type TLSFiles struct {
	CA   string
	Cert string
	Key  string
	Name string // that the other side's certificate must have; empty: the host of its URL
}

func (f TLSFiles) empty() bool { return f == TLSFiles{} }

// load reads the files that are named.
func (f TLSFiles) load() (own []tls.Certificate, ca *x509.CertPool, err error) {
	if (f.Cert == "") != (f.Key == "") {
		return nil, nil, fmt.Errorf("TLS certificate %q and key %q: want both or none", f.Cert, f.Key)
	}
	if f.Cert != "" {
		pair, err := keyPair(f.Cert, f.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("TLS certificate %s with key %s: %w", f.Cert, f.Key, err)
		}
		own = append(own, pair)
	}
	if f.CA != "" {
		b, err := regular.Read(f.CA, 16<<20)
		if err != nil {
			return nil, nil, fmt.Errorf("TLS authority: %w", err)
		}
		ca = x509.NewCertPool()
		if !ca.AppendCertsFromPEM(b) {
			return nil, nil, fmt.Errorf("TLS authority %s: holds no PEM certificate", f.CA)
		}
	}
	return own, ca, nil
}

// fresh holds what the files had when they were last read. A certificate is
// renewed while a job goes on: the next handshake has the new one. Files that
// make no sense, as between the change of a certificate and that of its key, leave
// what was there before.
type fresh struct {
	files TLSFiles
	event func(string) // told, once each, of files that make no sense; may be nil

	mu    sync.Mutex
	stamp [3]time.Time // modification times of what was read
	own   []tls.Certificate
	ca    *x509.CertPool
	said  string
}

// open reads the files for the first time.
func (f TLSFiles) open(event func(string)) (*fresh, error) {
	h := &fresh{files: f, event: event}
	var err error
	h.stamp = f.stamps()
	h.own, h.ca, err = f.load()
	return h, err
}

// stamps are the files' modification times; of a link, of what it leads to.
func (f TLSFiles) stamps() (t [3]time.Time) {
	for i, path := range []string{f.CA, f.Cert, f.Key} {
		if s, err := os.Stat(path); path != "" && err == nil {
			t[i] = s.ModTime()
		}
	}
	return t
}

// now is what the files have now.
func (h *fresh) now() ([]tls.Certificate, *x509.CertPool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stamp := h.files.stamps(); stamp != h.stamp {
		if own, ca, err := h.files.load(); err == nil {
			h.own, h.ca, h.stamp, h.said = own, ca, stamp, ""
		} else if text := fmt.Sprintf("%v: the files from before are used until that is mended", err); text != h.said {
			if h.said = text; h.event != nil {
				h.event(text)
			}
		}
	}
	return h.own, h.ca
}

// server is a broker's end; nil without files.
func (f TLSFiles) server(event func(string)) (*tls.Config, error) {
	if f.CA == "" && f.Cert == "" && f.Key == "" {
		return nil, nil
	}
	h, err := f.open(event)
	if err != nil {
		return nil, err
	}
	if h.own == nil {
		return nil, fmt.Errorf("TLS authority %s without a certificate: a broker needs a certificate and its key", f.CA)
	}
	make := func() *tls.Config {
		own, ca := h.now()
		c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: own}
		if ca != nil {
			c.ClientCAs, c.ClientAuth = ca, tls.RequireAndVerifyClientCert
		}
		return c
	}
	c := make()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return make(), nil }
	return c, nil
}

// client is a function that returns a client's end as the files are then; nil
// without files.
func (f TLSFiles) client(event func(string)) (func() *tls.Config, error) {
	if f.empty() {
		return nil, nil
	}
	h, err := f.open(event)
	if err != nil {
		return nil, err
	}
	return func() *tls.Config {
		own, ca := h.now()
		if ca == nil {
			var err error
			if ca, err = x509.SystemCertPool(); err != nil {
				ca = x509.NewCertPool()
			}
			for _, c := range own {
				ca.AddCert(c.Leaf)
			}
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: own, RootCAs: ca, ServerName: f.Name}
	}, nil
}

// nameFor is the name to ask for of a server with certificate c that is reached
// at host: empty where the certificate has the host itself.
func nameFor(c *x509.Certificate, host string) string {
	if c.VerifyHostname(host) == nil || len(c.DNSNames) == 0 {
		return ""
	}
	return concrete(c.DNSNames[0])
}

// keyPair reads a certificate and its key.
func keyPair(cert, key string) (tls.Certificate, error) {
	c, err := regular.Read(cert, 16<<20)
	if err != nil {
		return tls.Certificate{}, err
	}
	k, err := regular.Read(key, 16<<20)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(c, k)
}
