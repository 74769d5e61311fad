package health

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
)

// farewell is how long the last figures may take at a process's end.
const farewell = 5 * time.Second

// mostAnswer bounds what is read of a collector's answer.
const mostAnswer = 64 << 10

// push says where figures are sent by OTLP over HTTP, and how, in the words of
// OpenTelemetry's specification of its exporters.
type push struct {
	url      string // empty: nowhere
	every    time.Duration
	timeout  time.Duration // of one
	header   http.Header
	gzip     bool
	ca       string // file of the authority of the collector's certificate; empty: the system's
	cert     string // file of this side's certificate, and
	key      string // of its key; empty: it has none
	resource map[string]string
}

// push is what the flag and the environment say. It reads no file.
func (o Options) push(env func(string) string) (p push, err error) {
	base, address, from := o.OTLP, "", "--otlp"
	if base == "" {
		if strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") || !exports(env("OTEL_METRICS_EXPORTER")) {
			return push{}, nil
		}
		if address, from = env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"), "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"; address == "" {
			base, from = env("OTEL_EXPORTER_OTLP_ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT"
		}
	}
	if base+address == "" {
		return push{}, nil
	}
	u, err := url.Parse(base + address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "":
		return push{}, usage.Errorf("%s: want the URL of a collector that takes OTLP over HTTP, as in http://collector:4318", from)
	case u.User != nil:
		return push{}, usage.Errorf("%s has a secret in it, which is shown with the address: give it in OTEL_EXPORTER_OTLP_HEADERS", from)
	}
	if base != "" { // the metrics' own variable has their path, a base has not
		u = u.JoinPath("v1/metrics")
	}
	p = push{url: u.String(), header: http.Header{}, resource: map[string]string{"service.name": "vlaring"}}

	// of is the value of a variable, of metrics alone or of all signals, and its name.
	of := func(name string) (value, from string) {
		from = "OTEL_EXPORTER_OTLP_METRICS_" + name
		if value = env(from); value == "" {
			from = "OTEL_EXPORTER_OTLP_" + name
			value = env(from)
		}
		return value, from
	}
	if v, from := of("PROTOCOL"); v != "" && v != "http/protobuf" {
		return push{}, usage.Errorf("%s is %q, and metrics go by http/protobuf alone: take it away, and name the collector's port for that (4318)", from, v)
	}
	switch v, from := of("COMPRESSION"); v {
	case "", "none":
	case "gzip":
		p.gzip = true
	default:
		return push{}, usage.Errorf("%s is %q: want gzip or none", from, v)
	}
	v, from := of("TIMEOUT")
	if p.timeout, err = milliseconds(from, v, 10*time.Second); err != nil {
		return push{}, err
	}
	if p.every, err = milliseconds("OTEL_METRIC_EXPORT_INTERVAL", env("OTEL_METRIC_EXPORT_INTERVAL"), time.Minute); err != nil {
		return push{}, err
	}
	p.ca, _ = of("CERTIFICATE")
	p.cert, _ = of("CLIENT_CERTIFICATE")
	if p.key, _ = of("CLIENT_KEY"); (p.cert == "") != (p.key == "") {
		return push{}, usage.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY go together")
	}
	v, from = of("HEADERS")
	if err := pairs(from, v, func(k, v string) { p.header.Set(k, v) }); err != nil {
		return push{}, err
	}
	for k, v := range p.header {
		if strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r) }) ||
			strings.ContainsFunc(v[0], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return push{}, usage.Errorf("%s: a name or a value in it cannot be a header's: names have no spaces and signs, values no line breaks", from)
		}
	}
	if err := pairs("OTEL_RESOURCE_ATTRIBUTES", env("OTEL_RESOURCE_ATTRIBUTES"), func(k, v string) { p.resource[k] = v }); err != nil {
		return push{}, err
	}
	p.resource["service.name"] = cmp.Or(env("OTEL_SERVICE_NAME"), p.resource["service.name"])
	return p, nil
}

// exports says of a list of exporters whether OTLP is among them, as it is where nothing is said.
func exports(list string) bool {
	for _, name := range strings.Split(list, ",") {
		if name = strings.TrimSpace(name); name == "otlp" {
			return true
		}
	}
	return strings.TrimSpace(list) == ""
}

// milliseconds reads a variable of OpenTelemetry's that is a time.
func milliseconds(from, v string, otherwise time.Duration) (time.Duration, error) {
	if v == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil || n == 0 {
		return 0, usage.Errorf("%s is %q: want milliseconds, as in 10000", from, v)
	}
	return time.Duration(n) * time.Millisecond, nil
}

// pairs reads a variable of the form key=value,key=value, whose values are escaped as in
// URLs. Its values may be secrets: no error shows one.
func pairs(from, list string, use func(k, v string)) error {
	for _, w := range strings.Split(list, ",") {
		if strings.TrimSpace(w) == "" {
			continue
		}
		k, v, ok := strings.Cut(w, "=")
		value, err := url.PathUnescape(strings.TrimSpace(v))
		if k = strings.TrimSpace(k); !ok || k == "" || err != nil {
			return usage.Errorf("%s: want key=value, several separated by commas, with %%2C for a comma within a value", from)
		}
		use(k, value)
	}
	return nil
}

// client is an HTTP client for the collector, which verifies its certificate.
func (p push) client() (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if p.ca != "" {
		b, err := regular.Read(p.ca, 1<<20)
		if err != nil {
			return nil, usage.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(b) {
			return nil, usage.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE %s holds no certificate in PEM", p.ca)
		}
	}
	if p.cert != "" {
		pair, err := tls.LoadX509KeyPair(p.cert, p.key)
		if err != nil {
			return nil, usage.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE %s: %w", p.cert, err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: t, Timeout: p.timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// run sends the figures until end is called, which sends them once more. Training waits
// for none of it. say is told where they go, once when the collector takes none,
// and once when it does again: sums count from the process's start, so the next figures have
// all that those before had.
func (p push) run(o Options, reg prometheus.Gatherer, say func(text string)) (end func(), err error) {
	client, err := p.client()
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	for k, v := range map[string]string{"service.version": o.Version, "service.instance.id": fmt.Sprintf("%s-%d", host, os.Getpid()), "vlaring.job": o.Job, "vlaring.role": o.Role} {
		p.resource[k] = cmp.Or(p.resource[k], v)
	}
	began, failing, ends := time.Now(), false, false
	once := func(ctx context.Context) {
		families, err := reg.Gather()
		if err == nil {
			err = p.post(ctx, client, message(p.resource, families, began, time.Now()))
		}
		switch {
		case ctx.Err() == context.Canceled: // the end has come in the middle of it, and sends them once more
			return
		case err != nil && ends:
			say(fmt.Sprintf("the collector at %s has not taken the last metrics: %v", p.url, err))
		case err != nil && !failing:
			say(fmt.Sprintf("the collector at %s takes no metrics: %v (tried again every %v, and not told of again)", p.url, err, p.every))
		case err == nil && failing:
			say("the collector at " + p.url + " takes metrics again")
		}
		failing = err != nil
	}
	say(fmt.Sprintf("metrics: by OTLP to %s every %v", p.url, p.every))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(p.every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				once(ctx)
			case <-ctx.Done():
				if failing { // what is not taken has been told, and the end waits for nobody
					return
				}
				ends = true
				ctx, cancel := context.WithTimeout(context.Background(), farewell)
				defer cancel()
				once(ctx)
				client.CloseIdleConnections()
				return
			}
		}
	}()
	return func() { cancel(); <-done }, nil
}

// post sends one message.
func (p push) post(ctx context.Context, client *http.Client, m *metrics.MetricsData) error {
	body, err := proto.Marshal(m) // on the wire the request for it is the same
	if err != nil {
		return err
	}
	header := p.header.Clone()
	header.Set("Content-Type", "application/x-protobuf")
	if p.gzip {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(body) // to memory
		z.Close()
		body = b.Bytes()
		header.Set("Content-Encoding", "gzip")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = header
	a, err := client.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, mostAnswer))
	if a.StatusCode/100 != 2 {
		return fmt.Errorf("it answers %s", a.Status)
	}
	if err != nil {
		return err
	}
	if n := rejected(text); n > 0 {
		return fmt.Errorf("it has refused %d of them", n)
	}
	return nil
}

// rejected is how many points a collector says that it has not taken: field 1 of field
// 1 of its answer. 0 where the answer is not one.
func rejected(answer []byte) int64 {
	field := func(b []byte, want protowire.Type) (v []byte) {
		for len(b) > 0 {
			n, t, k := protowire.ConsumeTag(b)
			if k < 0 {
				return nil
			}
			l := protowire.ConsumeFieldValue(n, t, b[k:])
			if l < 0 {
				return nil
			}
			if n == 1 && t == want {
				v = b[k : k+l]
			}
			b = b[k+l:]
		}
		return v
	}
	inner, n := protowire.ConsumeBytes(field(answer, protowire.BytesType))
	if n < 0 {
		return 0
	}
	count, n := protowire.ConsumeVarint(field(inner, protowire.VarintType))
	if n < 0 {
		return 0
	}
	return int64(count)
}
