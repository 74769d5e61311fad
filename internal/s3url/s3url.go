// Package s3url reads the addresses of what lies in an object store:
//
//	s3://bucket/prefix
//	s3://bucket/prefix?endpoint=https://store.example:9000&region=eu-central-1
//
// They stand in job files and in the command line wherever a directory may. They
// hold no credentials, and an address that does is refused.
package s3url

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

const scheme = "s3://"

// URL is an address of an object, or of all whose keys begin with Prefix and a slash.
type URL struct {
	Bucket   string
	Prefix   string // without a slash at either end; empty: the whole bucket
	Endpoint string // http(s)://host[:port]; empty: the environment's
	Region   string // empty: the environment's
	Style    string // path, virtual, or empty: as the endpoint usually has it
}

// Is says whether a path is such an address, or was meant to be one.
func Is(p string) bool { return strings.HasPrefix(p, "s3:") || strings.HasPrefix(p, "S3:") }

// bucketName is what stores agree on, which keeps a name from being a path or a host.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$`)

const form = "want s3://BUCKET/PREFIX"

// Parse reads an address.
func Parse(s string) (URL, error) {
	bad := func(format string, a ...any) (URL, error) {
		return URL{}, fmt.Errorf("%s: %s", hidden(s), fmt.Sprintf(format, a...))
	}
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return bad(form)
	}
	rest, query, _ := strings.Cut(rest, "?")
	if at := strings.IndexByte(rest, '@'); at >= 0 && at < strings.IndexByte(rest+"/", '/') {
		return bad("an address holds no credentials: leave what stands before @ out, and give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or ~/.aws/credentials")
	}
	bucket, prefix, _ := strings.Cut(rest, "/")
	u := URL{Bucket: bucket, Prefix: strings.TrimSuffix(prefix, "/")}
	switch {
	case bucket == "":
		return bad("it names no bucket: %s", form)
	case !bucketName.MatchString(bucket) || strings.Contains(bucket, ".."):
		return bad("%q cannot be a bucket: 3 to 63 small letters, digits, dots and dashes", bucket)
	case u.Prefix != "" && !Plain(u.Prefix):
		return bad("%q cannot be a prefix: its parts between slashes must be names, and neither . nor ..", u.Prefix)
	}
	options, err := url.ParseQuery(query)
	if err != nil {
		return bad("what follows ?: %v", err)
	}
	for key, v := range options {
		to := map[string]*string{"endpoint": &u.Endpoint, "region": &u.Region, "style": &u.Style}[key]
		if to == nil {
			return bad("unknown option %q: want endpoint, region or style", key)
		}
		if len(v) > 1 {
			return bad("%s is given %d times", key, len(v))
		}
		*to = v[0]
	}
	if u.Endpoint != "" {
		if err := CheckEndpoint(u.Endpoint); err != nil {
			return bad("endpoint=%v", err)
		}
	}
	if !slices.Contains([]string{"", "path", "virtual"}, u.Style) {
		return bad("style=%s: want path or virtual", u.Style)
	}
	return u, nil
}

// hidden is an address for a message: what may be a password is left out.
func hidden(s string) string {
	if i := strings.IndexByte(s, '@'); i >= 0 {
		return scheme + "…@" + s[i+1:]
	}
	return s
}

// CheckEndpoint says what is wrong with the address of a store's server.
func CheckEndpoint(s string) error {
	e, err := url.Parse(s)
	switch {
	case err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "":
		return fmt.Errorf("%.80q: want http://HOST:PORT or https://HOST", s)
	case e.User != nil:
		return fmt.Errorf("https://…@%s: an address holds no credentials", e.Host)
	case strings.Trim(e.Path, "/") != "" || e.RawQuery != "" || e.Fragment != "":
		return fmt.Errorf("%.80q: want no path behind the host", s)
	}
	return nil
}

// Plain says whether a key below a prefix can be the name of a file below a directory,
// on any system: it does not climb, and has nothing that a path or a terminal reads
// otherwise.
func Plain(key string) bool {
	if key == "" || len(key) > 1024 || strings.ContainsAny(key, "\\\x00") || runtime.GOOS == "windows" && strings.Contains(key, ":") || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) {
		return false
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." || len(part) > 255 {
			return false
		}
	}
	return true
}

// Key is the whole key of a name below the address.
func (u URL) Key(name string) string { return path.Join(u.Prefix, name) }

// In is the address of a name below this one.
func (u URL) In(name string) URL {
	u.Prefix = path.Join(u.Prefix, name)
	return u
}

// Place is the address without its options: for messages.
func (u URL) Place() string { return scheme + path.Join(u.Bucket, u.Prefix) }

// String is the address as Parse reads it.
func (u URL) String() string {
	q := url.Values{}
	for key, v := range map[string]string{"endpoint": u.Endpoint, "region": u.Region, "style": u.Style} {
		if v != "" {
			q.Set(key, v)
		}
	}
	s := u.Place()
	if len(q) > 0 {
		s += "?" + q.Encode()
	}
	return s
}
