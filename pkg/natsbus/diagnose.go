package natsbus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// hopeless is the error to give up with, nil where trying again may help.
func hopeless(err error, creds Credentials) error {
	var (
		record tls.RecordHeaderError
		alert  tls.AlertError
		path   *fs.PathError
	)
	text := strings.ToLower(err.Error())
	if e := untrusted(err, creds.TLS, time.Now()); e != nil {
		return e
	}
	switch {
	case refusal(err), strings.Contains(text, "authorization violation"):
		return fmt.Errorf("%w: %s (%w)", cluster.ErrRefused, creds.hint(), err)
	case errors.As(err, &alert), strings.Contains(text, "remote error: tls"):
		if creds.TLS.Cert == "" {
			return fmt.Errorf("it wants a certificate of this side: give --tls-cert FILE and --tls-key FILE (%w)", err)
		}
		return fmt.Errorf("it does not accept the certificate of this side, --tls-cert %s: give one from the authority that the server trusts for its clients (%w)", creds.TLS.Cert, err)
	case errors.As(err, &record):
		return fmt.Errorf("what listens there does not speak TLS: check host and port, or use nats:// and no --tls flags (%w)", err)
	case (errors.Is(err, nats.ErrSecureConnWanted) || errors.Is(err, nats.ErrNkeysNotSupported)) && creds.broker() != nil && creds.TLS.empty():
		return fmt.Errorf("it does not prove to be the broker of this token, and was not shown it: another process has its port; of a NATS server of your own use --user, --creds or keys (coordinator keys --server), or TLS (%w)", err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("it does not speak TLS: use nats:// and no --tls flags, or give the server a certificate (%w)", err)
	case errors.Is(err, nats.ErrSecureConnRequired):
		return fmt.Errorf("it wants TLS: use tls:// and name its authority, --tls-ca FILE (%w)", err)
	case errors.Is(err, errOtherBroker):
		return fmt.Errorf("it is not the broker of this token, and was not shown it: another process has its port, or the token is another run's; of a broker with --tls-cert give --tls-ca FILE (%w)", err)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return fmt.Errorf("it asks for the token itself, which is shown to no server without TLS: use tls:// and --tls-ca FILE, or --user, or keys (coordinator keys --server) (%w)", err)
	case errors.As(err, &path): // the credentials file
		return err
	}
	return nil
}

// said is an error in words that need no other: it is still known by the one
// that it explains.
type said struct {
	text string
	err  error
}

func (s said) Error() string { return s.text }
func (s said) Unwrap() error { return s.err }

func saying(err error, format string, v ...any) error { return said{fmt.Sprintf(format, v...), err} }

// untrusted says in one sentence what is wrong with a server's certificate and
// what to type instead: name, date and authority are mended in different
// places. It is nil for other errors.
func untrusted(err error, files TLSFiles, now time.Time) error {
	var (
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		verify  *tls.CertificateVerificationError
	)
	own := func(c *x509.Certificate) bool { return c != nil && c.Subject.CommonName == identityName }
	switch {
	case errors.As(err, &name) && own(name.Certificate), errors.As(err, &unknown) && own(unknown.Cert):
		return saying(err, "it is a broker without a certificate of its own, which proves itself by the token: use nats:// and no --tls flags")
	case errors.As(err, &name):
		return wrongName(name)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.Before(invalid.Cert.NotBefore):
		return saying(err, "its TLS certificate is valid from %s on, and this machine's clock says %s: set the clock, or wait", date(invalid.Cert.NotBefore), date(now))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return saying(err, "its TLS certificate expired on %s, and this machine's clock says %s: give the server a new one, or set the clock", date(invalid.Cert.NotAfter), date(now))
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return saying(err, "its TLS certificate is not one for servers: have one issued with the extended key usage serverAuth")
	case errors.As(err, &unknown) && files.CA != "":
		return saying(err, "its TLS certificate is not trusted: it comes from %s, which is not the authority in --tls-ca %s: give that authority's file", issuer(unknown.Cert), files.CA)
	case errors.As(err, &unknown):
		return saying(err, "its TLS certificate is not trusted: it comes from %s, which this machine does not know: name that authority's file with --tls-ca FILE", issuer(unknown.Cert))
	case errors.As(err, &invalid), errors.As(err, &verify):
		return fmt.Errorf("its TLS certificate is not accepted: %w", err)
	}
	return nil
}

func wrongName(e x509.HostnameError) error {
	var names []string
	names = append(names, e.Certificate.DNSNames...)
	for _, ip := range e.Certificate.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return saying(e, "its TLS certificate has no DNS name and no address, so it is for no server: have one issued for %s", e.Host)
	}
	shown := names
	if len(shown) > 5 {
		shown = append(append([]string{}, shown[:5]...), "…")
	}
	return saying(e, "its TLS certificate is for %s and not for %s: connect by such a name, or give --tls-server-name %s", strings.Join(shown, ", "), e.Host, concrete(names[0]))
}

// concrete is a name that a certificate's name, which may have a wildcard, covers.
func concrete(name string) string {
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		return "vlaring." + rest
	}
	return name
}

func issuer(c *x509.Certificate) string {
	if c == nil {
		return "an unnamed authority"
	}
	return fmt.Sprintf("%q", c.Issuer.String())
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// obstacle says what keeps a server from being used that may be there later.
func obstacle(where string, err error) string {
	const raise = "raise its max_connections (or the account's), a job needs %d of them for each worker and two for the coordinator"
	switch {
	case full(err):
		return fmt.Sprintf("the NATS server at %s takes no more connections: "+raise, where, connections)
	case hungUp(err):
		return fmt.Sprintf("the NATS server at %s closes each connection at once: is it full? "+raise, where, connections)
	}
	return "no NATS server at " + where
}

// full says of a try to connect that the server has no place for another.
func full(err error) bool {
	if err == nil {
		return false
	}
	text := strings.ToLower(err.Error()) // while it connects, nats.go has the server's words and no error of its own
	return errors.Is(err, nats.ErrMaxConnectionsExceeded) || errors.Is(err, nats.ErrMaxAccountConnectionsExceeded) ||
		strings.Contains(text, nats.MAX_CONNECTIONS_ERR) || strings.Contains(text, nats.MAX_ACCOUNT_CONNECTIONS_ERR)
}

// hungUp says that the server ended it without a word, which is how a full one
// looks to a client that was still writing.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// advice goes with the last error of a server that was not found.
func advice(err error) string {
	var dns *net.DNSError
	switch {
	case full(err), hungUp(err):
		return "end others, or raise the limit"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "check the host's name: nobody knows it"
	case silent(err):
		return "somebody accepts the connection or drops it and says nothing: check that a NATS server listens at this port, and that no firewall is between"
	}
	return "check that it runs, that host and port are right, and that no firewall is between"
}

// silent says of a try to connect that nobody answered.
func silent(err error) bool {
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, os.ErrDeadlineExceeded)
}

func (c Credentials) hint() string {
	switch {
	case c.CredsFile != "":
		return "check the credentials file " + c.CredsFile
	case c.User != "":
		return fmt.Sprintf("check the password of user %q", c.User)
	case c.Key != nil && c.Key.ended(time.Now()):
		return fmt.Sprintf("the key of %s %s was good until %s (coordinator keys makes another one)", c.Key.Role, c.Key.ID, c.Key.Until.Format(time.RFC3339))
	case c.Key != nil:
		return fmt.Sprintf("the key of %s %s may have been revoked or its holder put out, as the coordinator's log says, or it is for another server (coordinator keys makes another one)", c.Key.Role, c.Key.ID)
	case c.Token != "":
		return "check the token"
	}
	return "it wants some, and none were given"
}

// denied is the error of a server that forbids a subject, by its own words:
//
//	Permissions Violation for Publish to "vlaring.j.coordinator"
func denied(job, where string, key *Key, err error) error {
	what := "use"
	switch text := err.Error(); {
	case strings.Contains(text, "Subscription to "):
		what = "subscribe to"
	case strings.Contains(text, "Publish to "):
		what = "publish on"
	}
	if key != nil {
		return saying(err, "the key of %s %q is not for that: the NATS server at %s does not let it %s %s (docs/operations.md, Permissions)", key.Role, key.ID, where, what, subjectOf(err))
	}
	return saying(err, "the NATS server at %s does not let this user %s %s: a user of this job needs to publish and subscribe on %q (docs/operations.md, Permissions)", where, what, subjectOf(err), subjects(job))
}

// subjectOf is the subject that a server's complaint names, in quotes.
func subjectOf(err error) string {
	text := err.Error()
	if i := strings.IndexByte(text, '"'); i >= 0 {
		if n := strings.IndexByte(text[i+1:], '"'); n >= 0 {
			return text[i : i+n+2]
		}
	}
	return "a subject"
}

// cuts tells a server that cuts a connection again and again from one that is
// away now and then: the job goes on then, at a crawl.
type cuts struct {
	at   []time.Time
	said bool
}

const (
	cutsMany   = 5
	cutsWithin = time.Minute
	cutSettles = 500 * time.Millisecond // by then the other connection would be lost too
)

// add is called at each loss of a connection while another to the same server
// stays. It reports whether this is to be told of, once.
func (c *cuts) add(now time.Time) bool {
	c.at = append(c.at, now)
	for len(c.at) > 0 && now.Sub(c.at[0]) >= cutsWithin {
		c.at = c.at[1:]
	}
	if len(c.at) < cutsMany || c.said {
		return false
	}
	c.said = true
	return true
}

// known says that the cuts have been told of and go on: each one by itself is
// no news.
func (c *cuts) known(now time.Time) bool {
	return c.said && len(c.at) > 0 && now.Sub(c.at[len(c.at)-1]) < cutsWithin
}
