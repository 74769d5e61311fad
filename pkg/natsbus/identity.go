package natsbus

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// identity is the key pair by which a broker proves to be the one of a token.
// The token itself, and each Key that was made from it, knows its public half.
//
// It is the key of a TLS certificate that says nothing else: what the handshake
// proves is that the other end has the private half, and from then on nobody can
// read or change what is said. So a process that takes the port of a broker that
// died, or stands between, gets neither a token nor a word of the job.
func identity(token string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(derive(token, "vlaring broker"))
}

// identityName is whose the certificate is.
const identityName = "vlaring broker"

// identityTLS is a broker's end.
func identityTLS(token string) (*tls.Config, error) {
	key := identity(token)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: identityName}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		DNSNames: []string{"vlaring"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(nil, c, c, key.Public(), key) // Ed25519 needs no random numbers
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}}, nil
}

// errOtherBroker is the error of a server that has not the private half.
var errOtherBroker = errors.New("it does not prove to be the broker of this token")

// known is a client's end, which knows the public half. other is told of a server
// that has not the private one; it may be nil.
func known(public ed25519.PublicKey, other func(error)) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // which means: not by authorities and names
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) > 0 {
				if key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok && key.Equal(public) {
					return nil
				}
			}
			if other != nil {
				other(errOtherBroker)
			}
			return errOtherBroker
		}}
}

// amongBrokers is the end of a route, which is both: each of a mesh's brokers has the token.
func amongBrokers(token string) (*tls.Config, error) {
	c, err := identityTLS(token)
	if err != nil {
		return nil, err
	}
	peer := known(identity(token).Public().(ed25519.PublicKey), nil)
	c.InsecureSkipVerify, c.VerifyConnection, c.ClientAuth = true, peer.VerifyConnection, tls.RequireAnyClientCert
	return c, nil
}

// broker is the public key by which the broker of these credentials is known;
// nil: it is known by no key.
func (c Credentials) broker() ed25519.PublicKey {
	switch {
	case c.Key != nil && c.Key.Broker != "":
		b, err := base64.RawURLEncoding.DecodeString(c.Key.Broker)
		if err != nil || len(b) != ed25519.PublicKeySize {
			panic(fmt.Sprintf("natsbus: a key with the broker %q", c.Key.Broker)) // ParseKey has looked
		}
		return b
	case c.Key == nil && c.Token != "":
		return identity(c.Token).Public().(ed25519.PublicKey)
	}
	return nil
}

// loopback says whether an address, host:port, is one that no network carries.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
