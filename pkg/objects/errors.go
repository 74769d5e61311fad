package objects

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/vlaring/vlaring/internal/plain"
)

// Classes of errors, for errors.Is. An object that is not there is fs.ErrNotExist.
var (
	ErrNoBucket = errors.New("no such bucket")
	ErrDenied   = errors.New("access denied")
	ErrClock    = errors.New("clocks differ")
	ErrRegion   = errors.New("wrong region")
	ErrAway     = errors.New("the store cannot be reached")
	ErrChanged  = errors.New("the object was replaced")
)

// said is the most of a store's own words that a message repeats.
const said = 300

// Error says what went wrong with a store, and what to do.
type Error struct {
	Doing string // listing, reading, storing …
	What  string // bucket and key
	Class error  // one of the above, fs.ErrNotExist, or nil
	Text  string
	Err   error // the client's; may be nil

	transient bool
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %s", e.Doing, e.What, e.Text) }

// Unwrap gives the class, for errors.Is, and the client's error.
func (e *Error) Unwrap() []error {
	var out []error
	for _, err := range []error{e.Class, e.Err} {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

// Transient says whether the same may succeed later without anybody's help.
func Transient(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.transient
}

// wrong is an answer that no store may give.
func (b *Bucket) wrong(doing, key, text string) error {
	return &Error{Doing: doing, What: b.at.In(key).Place(), Text: "the store at " + b.where + " does not answer as a store: " + text}
}

// explain is the client's error in words, of what was done to key; nil for nil.
func (b *Bucket) explain(ctx context.Context, doing, key string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	e := &Error{Doing: doing, What: b.at.In(key).Place(), Err: err}
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		e.ofNetwork(b, err)
		return e
	}
	e.transient = r.StatusCode >= 500 && r.StatusCode != http.StatusNotImplemented || r.StatusCode == http.StatusTooManyRequests || r.StatusCode == http.StatusRequestTimeout
	text := strings.TrimSpace(plain.Line(r.Message, said))
	switch r.Code {
	case "NoSuchBucket":
		e.Class, e.Text = ErrNoBucket, fmt.Sprintf("there is no bucket %s at %s: make it, or mend its name or the endpoint (AWS_ENDPOINT_URL, or ?endpoint= in the address)", b.at.Bucket, b.where)
	case "NoSuchKey", "NoSuchVersion":
		e.Class, e.Text = fs.ErrNotExist, "there is no such object"
	case "NoSuchUpload":
		e.Class, e.Text = fs.ErrNotExist, "the store has given up the upload"
	case "PreconditionFailed":
		e.Class, e.Text, e.transient = ErrChanged, "the object was replaced while it was read", false
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden":
		e.Class, e.Text = ErrDenied, fmt.Sprintf("access denied: %s; it must be allowed to list the bucket, and to read, and where checkpoints are stored to write and delete, objects of it", b.who)
	case "InvalidAccessKeyId", "XAdminUserNotFound": // the second is versitygw's
		e.Class, e.Text = ErrDenied, fmt.Sprintf("the store at %s does not know the key: %s", b.where, b.who)
	case "SignatureDoesNotMatch":
		e.Class, e.Text = ErrDenied, fmt.Sprintf("the secret does not fit the key: %s; look at AWS_SECRET_ACCESS_KEY, and at a proxy that changes the host", b.who)
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		e.Class, e.Text, e.transient = ErrDenied, "the session token (AWS_SESSION_TOKEN) is not valid any more: get new credentials", false
	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		e.Class, e.Text, e.transient = ErrClock, fmt.Sprintf("the clocks of this machine (%s) and of the store differ by more than it allows, mostly 15 minutes: set this machine's", time.Now().UTC().Format("2006-01-02 15:04:05 UTC")), false
	case "AuthorizationHeaderMalformed", "InvalidRegion", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException", "AuthorizationQueryParametersError":
		e.Class, e.Text = ErrRegion, "the bucket is in another region than "+orUnset(b.region)
		if r.Region != "" && r.Region != b.region {
			e.Text += ", in " + plain.Line(r.Region, said)
		}
		e.Text += ": set AWS_REGION, or ?region= in the address"
		if text != "" {
			e.Text += " (" + text + ")"
		}
	default:
		if r.StatusCode == http.StatusForbidden && strings.Contains(strings.ToLower(text), "time") {
			e.Class = ErrClock
		} else if r.StatusCode == http.StatusForbidden {
			e.Class = ErrDenied
		}
		e.Text = strings.TrimSpace(fmt.Sprintf("the store at %s answers %s %s", b.where, plain.Line(r.Code, said), text))
		if r.StatusCode > 0 {
			e.Text += fmt.Sprintf(" (%d)", r.StatusCode)
		}
	}
	return e
}

func orUnset(region string) string {
	if region == "" {
		return "the store's own guess"
	}
	return region
}

// ofNetwork is an error of the way to the store.
func (e *Error) ofNetwork(b *Bucket, err error) {
	e.Class, e.transient = ErrAway, true
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var short net.Error
	cause := err
	if u := (*url.Error)(nil); errors.As(err, &u) { // which has the whole query
		cause = u.Err
	}
	text := strings.ReplaceAll(plain.Line(cause.Error(), said), "Retry again.", "")
	switch {
	case errors.As(err, &cert):
		e.transient = false
		e.Text = fmt.Sprintf("%s does not prove to be the store: %v; give its certificate's issuer with AWS_CA_BUNDLE", b.where, cert.Err)
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		e.transient = false
		e.Text = fmt.Sprintf("%s speaks no TLS: write http:// in place of https://", b.where)
	case errors.As(err, &dns):
		e.Text = fmt.Sprintf("the name of %s is not known here: %v", b.where, dns)
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &short) && short.Timeout():
		e.Text = fmt.Sprintf("%s does not answer", b.where)
	default:
		e.Text = fmt.Sprintf("%s cannot be reached: %s", b.where, text)
	}
}
