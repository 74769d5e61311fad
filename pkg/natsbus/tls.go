package natsbus

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

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

func (f TLSFiles) server() (*tls.Config, error) {
	if f.CA == "" && f.Cert == "" && f.Key == "" {
		return nil, nil
	}
	own, ca, err := f.load()
	if err != nil {
		return nil, err
	}
	if own == nil {
		return nil, fmt.Errorf("TLS authority %s without a certificate: a broker needs a certificate and its key", f.CA)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: own}
	if ca != nil {
		c.ClientCAs, c.ClientAuth = ca, tls.RequireAndVerifyClientCert
	}
	return c, nil
}

func (f TLSFiles) client() (*tls.Config, error) {
	if f.empty() {
		return nil, nil
	}
	own, ca, err := f.load()
	if err != nil {
		return nil, err
	}
	if ca == nil {
		if ca, err = x509.SystemCertPool(); err != nil {
			ca = x509.NewCertPool()
		}
		for _, c := range own {
			leaf, err := x509.ParseCertificate(c.Certificate[0])
			if err != nil {
				return nil, fmt.Errorf("TLS certificate %s: %w", f.Cert, err)
			}
			ca.AddCert(leaf)
		}
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: own, RootCAs: ca, ServerName: f.Name}, nil
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
