package objects

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"gopkg.in/ini.v1"

	"github.com/vlaring/vlaring/internal/s3url"
)

// stall is how long nothing may move on a connection.
const stall = time.Minute

// tries of one request, by the client; Bucket's own methods add none, but for reads
// that break off.
const tries = 4

// Bucket is all below an address of a store. It is safe for concurrent use.
type Bucket struct {
	at     s3url.URL
	where  string // endpoint, for messages
	region string // asked for; empty: found out
	who    string // whose credentials, for messages; without the secret
	core   *minio.Core
	stall  time.Duration
	part   int64 // bytes of a part, at least
}

// Open makes ready for what is below an address. Endpoint, region and credentials are
// those of the address, of the environment (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL,
// AWS_REGION, AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
// AWS_SESSION_TOKEN, AWS_PROFILE, AWS_CA_BUNDLE), of ~/.aws/config and
// ~/.aws/credentials, or of the machine's role, in this order. Nobody is asked yet.
func Open(address string) (*Bucket, error) {
	u, err := s3url.Parse(address)
	if err != nil {
		return nil, err
	}
	p, err := readProfile()
	if err != nil {
		return nil, err
	}
	endpoint := cmp.Or(u.Endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), p.get("endpoint_url"))
	region := cmp.Or(u.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), p.get("region"))
	amazon := endpoint == ""
	if amazon {
		endpoint = "https://s3.amazonaws.com"
	}
	if err := s3url.CheckEndpoint(endpoint); err != nil {
		return nil, fmt.Errorf("the endpoint of the environment (AWS_ENDPOINT_URL) or of ~/.aws/config: %w", err)
	}
	e, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	b := &Bucket{at: u, where: endpoint, region: region, stall: stall, part: leastPart}
	creds, err := b.credentials(amazon)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport()
	if err != nil {
		return nil, err
	}
	lookup := map[string]minio.BucketLookupType{"": minio.BucketLookupAuto, "path": minio.BucketLookupPath, "virtual": minio.BucketLookupDNS}[u.Style]
	b.core, err = minio.NewCore(e.Host, &minio.Options{Creds: creds, Secure: e.Scheme == "https", Region: region, BucketLookup: lookup,
		Transport: transport, MaxRetries: tries})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", endpoint, err)
	}
	return b, nil
}

// At is the address.
func (b *Bucket) At() s3url.URL { return b.at }

// In is what is below a name of this one.
func (b *Bucket) In(name string) *Bucket {
	c := *b
	c.at = b.at.In(name)
	return &c
}

// profile is a section of ~/.aws/config.
type profile struct{ section *ini.Section }

func (p profile) get(key string) string {
	if p.section == nil {
		return ""
	}
	return p.section.Key(key).String()
}

// readProfile reads what ~/.aws/config says of the profile in use. A profile that is
// asked for and is nowhere is an error: else nobody's credentials would be used.
func readProfile() (profile, error) {
	home, _ := os.UserHomeDir() // without one there are no files
	config := cmp.Or(os.Getenv("AWS_CONFIG_FILE"), filepath.Join(home, ".aws", "config"))
	keys := cmp.Or(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(home, ".aws", "credentials"))
	name := cmp.Or(os.Getenv("AWS_PROFILE"), "default")
	var found profile
	known := name == "default"
	for _, f := range []struct{ path, section string }{{keys, name}, {config, name}, {config, "profile " + name}} {
		if i, err := os.Stat(f.path); err != nil || !i.Mode().IsRegular() || i.Size() > 1<<20 {
			continue
		}
		file, err := ini.Load(f.path)
		if err != nil {
			return found, fmt.Errorf("%s: %w", f.path, err)
		}
		if s, err := file.GetSection(f.section); err == nil {
			known = true
			if f.path == config {
				found = profile{s}
			}
		}
	}
	if !known {
		return found, fmt.Errorf("AWS_PROFILE is %s, which neither %s nor %s has", name, config, keys)
	}
	return found, nil
}

// credentials are the first of the usual places that has some; nobody's where none
// has, which is enough for what is public.
func (b *Bucket) credentials(amazon bool) (*credentials.Credentials, error) {
	id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	if (id == "") != (secret == "") {
		return nil, errors.New("one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set, and the other is not: set both")
	}
	from := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	// A machine's role is asked for over the network, where there may be nobody to ask.
	for _, role := range []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		amazon = amazon || os.Getenv(role) != ""
	}
	if amazon && os.Getenv("AWS_EC2_METADATA_DISABLED") != "true" {
		from = append(from, &credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}})
	}
	c := credentials.NewChainCredentials(from)
	v, err := c.GetWithContext(nil)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	switch {
	case v.AccessKeyID == "":
		b.who = "no credentials were found (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials)"
	case v.AccessKeyID == id:
		b.who = "the key is AWS_ACCESS_KEY_ID " + shown(id)
	default:
		b.who = "the key is " + shown(v.AccessKeyID) + ", of ~/.aws or the machine's role"
	}
	return c, nil
}

// shown is as much of a key's name as tells it from another.
func shown(id string) string {
	if len(id) <= 8 {
		return id[:min(len(id), 2)] + "…"
	}
	return id[:4] + "…" + id[len(id)-4:]
}

// newTransport carries requests. It gives up what does not answer.
func newTransport() (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: stall,
		ExpectContinueTimeout: 10 * time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   16,
		DisableCompression:    true, // bytes are as they are stored
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if path := os.Getenv("AWS_CA_BUNDLE"); path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("AWS_CA_BUNDLE: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("AWS_CA_BUNDLE: %s holds no certificate", path)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, nil
}

// Object is what a list says of one.
type Object struct {
	Key      string // below the address of the bucket
	Size     int64
	ETag     string // the store's name of its content, often an MD5
	Modified time.Time
}

// maxObjects bounds a list: a store that never ends would fill the memory.
const maxObjects = 4 << 20

// List lists the objects whose keys below the address begin with prefix, sorted. Keys
// that end in a slash, which some programs store for folders, are left out.
func (b *Bucket) List(ctx context.Context, prefix string) ([]Object, error) {
	whole := b.at.Prefix
	if whole != "" {
		whole += "/"
	}
	var out []Object
	for o := range b.core.ListObjectsIter(ctx, b.at.Bucket, minio.ListObjectsOptions{Prefix: whole + prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, b.explain(ctx, "listing", prefix, o.Err)
		}
		key, ok := strings.CutPrefix(o.Key, whole)
		switch {
		case !ok || !strings.HasPrefix(key, prefix):
			return nil, b.wrong("listing", prefix, fmt.Sprintf("it was asked for keys that begin with %.80q and lists %.80q", whole+prefix, o.Key))
		case o.Size < 0:
			return nil, b.wrong("listing", prefix, fmt.Sprintf("it lists %.80q with %d bytes", o.Key, o.Size))
		case len(out) == maxObjects:
			return nil, b.wrong("listing", prefix, fmt.Sprintf("it lists more than %d objects: give a longer prefix", maxObjects))
		case key == "" || strings.HasSuffix(key, "/"):
			continue
		}
		out = append(out, Object{key, o.Size, tag(o.ETag), o.LastModified})
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(x, y Object) int { return strings.Compare(x.Key, y.Key) })
	for i := range out {
		if i > 0 && out[i].Key == out[i-1].Key {
			return nil, b.wrong("listing", prefix, fmt.Sprintf("it lists %.80q twice", out[i].Key))
		}
	}
	return out, nil
}

// tag is an ETag without its quotes.
func tag(s string) string { return strings.Trim(s, `"`) }

// Stat says what is known of an object; one that is not there is fs.ErrNotExist.
func (b *Bucket) Stat(ctx context.Context, key string) (Object, error) {
	i, err := b.core.StatObject(ctx, b.at.Bucket, b.at.Key(key), minio.StatObjectOptions{})
	if err != nil {
		err = b.explain(ctx, "looking at", key, err)
		// The answer to this question has no body, so that it says little. That to a list does.
		if !errors.Is(err, fs.ErrNotExist) && !Transient(err) && ctx.Err() == nil {
			for o := range b.core.ListObjectsIter(ctx, b.at.Bucket, minio.ListObjectsOptions{Prefix: b.at.Key(key), MaxKeys: 1}) {
				if o.Err != nil {
					return Object{}, b.explain(ctx, "looking at", key, o.Err)
				}
				break
			}
		}
		return Object{}, err
	}
	if i.Size < 0 {
		return Object{}, b.wrong("looking at", key, fmt.Sprintf("it says that it has %d bytes", i.Size))
	}
	return Object{key, i.Size, tag(i.ETag), i.LastModified}, nil
}

// Remove removes an object; one that is not there is no error.
func (b *Bucket) Remove(ctx context.Context, key string) error {
	err := b.explain(ctx, "removing", key, b.core.RemoveObject(ctx, b.at.Bucket, b.at.Key(key), minio.RemoveObjectOptions{}))
	if errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrNoBucket) {
		return nil
	}
	return err
}
