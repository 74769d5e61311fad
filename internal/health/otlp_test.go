package health

import (
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/worker"
)

// receiver takes metrics as a collector does.
type receiver struct {
	mu     sync.Mutex
	got    []*metrics.ResourceMetrics
	header http.Header
	path   string
	status int    // what it answers; 0: 200
	answer []byte // with it
	asked  chan struct{}
}

func newReceiver() *receiver { return &receiver{asked: make(chan struct{}, 1000)} }

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.asked <- struct{}{} }()
	r.header, r.path = q.Header, q.Method+" "+q.URL.Path
	if r.status != 0 {
		w.WriteHeader(r.status)
		return
	}
	body := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(q.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	var m metrics.MetricsData
	if err == nil {
		err = proto.Unmarshal(b, &m)
	}
	if err != nil || q.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, fmt.Sprint(err, q.Header), http.StatusBadRequest)
		return
	}
	r.got = append(r.got, m.ResourceMetrics...)
	w.Write(r.answer)
}

// about are attributes as a map.
func about(l []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range l {
		m[a.Key] = a.Value.GetStringValue()
	}
	return m
}

// points are the values of the newest message, by name and labels as Prometheus writes them.
func (r *receiver) points(t *testing.T) (map[string]float64, *metrics.ResourceMetrics) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) == 0 {
		t.Fatal("nothing has come")
	}
	m, out := r.got[len(r.got)-1], map[string]float64{}
	put := func(name string, l []*common.KeyValue, v float64) {
		a, labels := about(l), []string{}
		for _, k := range slices.Sorted(maps.Keys(a)) {
			labels = append(labels, fmt.Sprintf("%s=%q", k, a[k]))
		}
		if len(labels) > 0 {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		out[name] = v
	}
	for _, x := range m.ScopeMetrics[0].Metrics {
		switch d := x.Data.(type) {
		case *metrics.Metric_Sum:
			if !d.Sum.IsMonotonic || d.Sum.AggregationTemporality != metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
				t.Errorf("%s is no sum that only grows", x.Name)
			}
			for _, p := range d.Sum.DataPoints {
				if p.StartTimeUnixNano == 0 || p.StartTimeUnixNano > p.TimeUnixNano {
					t.Errorf("%s counts from %d to %d", x.Name, p.StartTimeUnixNano, p.TimeUnixNano)
				}
				put(x.Name, p.Attributes, p.GetAsDouble())
			}
		case *metrics.Metric_Gauge:
			for _, p := range d.Gauge.DataPoints {
				put(x.Name, p.Attributes, p.GetAsDouble())
			}
		case *metrics.Metric_Histogram:
			for _, p := range d.Histogram.DataPoints {
				put(x.Name+"_count", p.Attributes, float64(p.Count))
				put(x.Name+"_sum", p.Attributes, p.GetSum())
				if len(p.BucketCounts) != len(p.ExplicitBounds)+1 {
					t.Errorf("%s has %d bounds and %d buckets", x.Name, len(p.ExplicitBounds), len(p.BucketCounts))
				}
				var n uint64
				for i, b := range p.BucketCounts[:len(p.ExplicitBounds)] {
					n += b
					put(x.Name+"_bucket", append([]*common.KeyValue{attribute("le", fmt.Sprint(p.ExplicitBounds[i]))}, p.Attributes...), float64(n))
				}
				if n+p.BucketCounts[len(p.ExplicitBounds)] != p.Count {
					t.Errorf("%s: its buckets hold %d, and it counts %d", x.Name, n, p.Count)
				}
			}
		case *metrics.Metric_Summary:
			for _, p := range d.Summary.DataPoints {
				put(x.Name+"_count", p.Attributes, float64(p.Count))
				put(x.Name+"_sum", p.Attributes, p.Sum)
			}
		}
	}
	return out, m
}

// A collector is sent what /metrics shows: every figure, with its labels and its value,
// in the types of OpenTelemetry, and who sends it.
func TestOTLP(t *testing.T) {
	r := newReceiver()
	s := httptest.NewServer(r)
	defer s.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%2Cb, other = c")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=p-0,service.name=overruled")
	t.Setenv("OTEL_SERVICE_NAME", "robots")
	var said []string
	o := Options{Listen: "127.0.0.1:0", OTLP: s.URL + "/base", Version: "v1", Job: "j", Role: "coordinator"}
	c := NewRun(o, 100, 12)
	end, err := c.Serve(func() cluster.Pulse { return cluster.Pulse{Stalls: 4} }, func(s string) { said = append(said, s) })
	if err != nil {
		t.Fatal(err)
	}
	c.figures.stepped(run.Metrics{Step: 41, Loss: 2, Time: cluster.Times{Step: 0.5, Backward: 0.25}})
	c.figures.stepped(run.Metrics{Step: 42, Loss: 1.5, Time: cluster.Times{Step: 1e6, Backward: 0.25}}) // beyond the last bucket
	_, text := get(t, said[len(said)-1], "/metrics")
	end() // sends them
	points, m := r.points(t)
	seen := 0
	for _, line := range strings.Split(text, "\n") {
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' || !strings.HasPrefix(line, "vlaring_") || strings.Contains(line, `le="+Inf"`) {
			continue
		}
		var want float64
		if _, err := fmt.Sscan(line[i+1:], &want); err != nil {
			t.Fatal(err)
		}
		got, ok := points[line[:i]]
		if moves := strings.Contains(line, "_age_seconds"); !ok || got != want && !moves {
			t.Errorf("%s is %v, sent: %v, %v", line[:i], want, ok, got)
		}
		seen++
	}
	if seen < 40 {
		t.Errorf("/metrics has %d lines of ours", seen)
	}
	for name, want := range map[string]float64{"vlaring_run_step": 42, "vlaring_run_steps_total": 2, "vlaring_run_step_duration_seconds_count": 2, "vlaring_cluster_stalls_total": 4,
		`vlaring_run_part_seconds_total{part="backward"}`: 0.5} {
		if points[name] != want {
			t.Errorf("%s is %v, want %v", name, points[name], want)
		}
	}
	if _, ok := points["go_goroutines"]; !ok {
		t.Error("Go's own figures are not among them")
	}
	host, _ := os.Hostname()
	want := map[string]string{"service.name": "robots", "service.version": "v1", "service.instance.id": fmt.Sprintf("%s-%d", host, os.Getpid()), "vlaring.job": "j", "vlaring.role": "coordinator", "k8s.pod.name": "p-0"}
	if got := about(m.Resource.Attributes); !maps.Equal(got, want) {
		t.Errorf("it says of itself %v, want %v", got, want)
	}
	if r.path != "POST /base/v1/metrics" || r.header.Get("X-Key") != "a,b" || r.header.Get("Other") != "c" || r.header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%s with %v", r.path, r.header)
	}
	if all := strings.Join(said, "\n"); !strings.Contains(all, "metrics: by OTLP to "+s.URL+"/base/v1/metrics every 1m0s") || strings.Contains(all, "a,b") {
		t.Errorf("said: %s", all)
	}
}

// A worker needs no address to be asked at, and goes by the environment alone; where that
// names no collector nothing is sent, and nothing is counted.
func TestOTLPOfAWorker(t *testing.T) {
	r := newReceiver()
	s := httptest.NewServer(r)
	defer s.Close()
	var w Worker
	w.Watch(func() worker.Standing { return worker.Standing{Loaded: true, Step: 7} })
	never := func(string) { t.Error("it says something") }
	for _, off := range []map[string]string{nil, {"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL, "OTEL_SDK_DISABLED": "true"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL, "OTEL_METRICS_EXPORTER": "none"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL, "OTEL_METRICS_EXPORTER": "prometheus, console"}} {
		for k, v := range off {
			t.Setenv(k, v)
		}
		end, err := w.Serve(Options{Role: "worker"}, 0, never)
		if err != nil {
			t.Fatal(err)
		}
		end()
		if o := (Options{}); o.shows() {
			t.Errorf("%v: figures are counted", off)
		}
		for k := range off {
			os.Unsetenv(k)
		}
	}
	if len(r.got) > 0 {
		t.Fatalf("%d messages though nobody asked for them", len(r.got))
	}
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", s.URL+"/as/it/is")
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "5")
	end, err := w.Serve(Options{Role: "worker", Job: "j"}, 0, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // by the clock, and not at the end alone
		<-r.asked
	}
	end()
	if points, _ := r.points(t); points["vlaring_worker_step"] != 7 || r.path != "POST /as/it/is" {
		t.Errorf("step %v at %s", points["vlaring_worker_step"], r.path)
	}
}

// A collector that takes nothing is told of once, and once when it takes again; what it
// refuses in a good answer counts as refused.
func TestOTLPTroubles(t *testing.T) {
	r := newReceiver()
	s := httptest.NewServer(r)
	defer s.Close()
	r.status = http.StatusServiceUnavailable
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "5")
	var mu sync.Mutex
	var said []string
	end, err := show(Options{OTLP: s.URL}, nil, nil, func(text string) { mu.Lock(); said = append(said, text); mu.Unlock() })
	if err != nil {
		t.Fatal(err)
	}
	set := func(status int, answer []byte) {
		r.mu.Lock()
		r.status, r.answer = status, answer
		r.mu.Unlock()
		for len(r.asked) > 0 {
			<-r.asked
		}
		for range 3 {
			<-r.asked
		}
	}
	set(http.StatusServiceUnavailable, nil)
	set(0, nil)
	// ExportMetricsServiceResponse{partial_success: {rejected_data_points: 300, error_message: "no"}}
	set(0, []byte{0x0a, 7, 0x08, 0xac, 0x02, 0x12, 2, 'n', 'o'})
	set(0, []byte{0x0a, 0}) // all are taken
	set(0, []byte("no message"))
	end()
	var got []string
	for _, l := range said[1:] {
		l, _, _ = strings.Cut(strings.ReplaceAll(l, s.URL+"/v1/metrics", "URL"), " (")
		got = append(got, l)
	}
	want := []string{"the collector at URL takes no metrics: it answers 503 Service Unavailable", "the collector at URL takes metrics again",
		"the collector at URL takes no metrics: it has refused 300 of them", "the collector at URL takes metrics again"}
	if !slices.Equal(got, want) {
		t.Errorf("said:\n%s", strings.Join(got, "\n"))
	}
}

// The end waits a moment at most for a collector that does not answer.
func TestOTLPEnd(t *testing.T) {
	hung := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hung }))
	defer s.Close()
	defer close(hung)
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "50")
	end, err := show(Options{OTLP: s.URL}, nil, nil, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	end()
	if d := time.Since(began); d > farewell {
		t.Errorf("the end took %v", d)
	}
}

// A collector's certificate has to come from the authority that is named, or one of the system's.
func TestOTLPVerifies(t *testing.T) {
	r := newReceiver()
	s := httptest.NewUnstartedServer(r)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	reg := prometheus.NewRegistry()
	try := func() (said string) {
		p, err := Options{OTLP: s.URL}.push(os.Getenv)
		if err != nil {
			t.Fatal(err)
		}
		end, err := p.run(Options{}, reg, func(text string) { said += text + "\n" })
		if err != nil {
			return err.Error()
		}
		end()
		return said
	}
	if said := try(); !strings.Contains(said, "certificate") || len(r.got) > 0 {
		t.Errorf("a certificate that nobody knows: %s", said)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.pem")
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
	if said := try(); !strings.Contains(said, "no such file") {
		t.Errorf("no file: %s", said)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := try(); strings.Contains(said, "has not taken") || len(r.got) != 1 {
		t.Errorf("%d messages; %s", len(r.got), said)
	}
}

// A collector that asks for this side's certificate is shown it.
func TestOTLPClientCertificate(t *testing.T) {
	r := newReceiver()
	s := httptest.NewUnstartedServer(r)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(variable, kind string, b []byte) {
		path := filepath.Join(t.TempDir(), variable)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(variable, path)
	}
	file("OTEL_EXPORTER_OTLP_CERTIFICATE", "CERTIFICATE", s.Certificate().Raw)
	for _, shown := range []bool{false, true} {
		if shown {
			file("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "CERTIFICATE", der)
			file("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "PRIVATE KEY", raw)
		}
		var said string
		end, err := show(Options{OTLP: s.URL}, nil, nil, func(text string) { said += text + "\n" })
		if err != nil {
			t.Fatal(err)
		}
		end()
		if got := len(r.got) > 0; got != shown || strings.Contains(said, "has not taken the last metrics") == shown {
			t.Errorf("a certificate is shown: %v, and metrics are taken: %v; %s", shown, got, said)
		}
	}
}

// What is wrong with the settings is said by name, and no secret with it.
func TestOTLPSettings(t *testing.T) {
	const url = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for want, env := range map[string]map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT: want the URL of a collector":         {url: "collector:4318"},
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: want the URL of a collector": {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://"},
		"OTEL_EXPORTER_OTLP_ENDPOINT has a secret in it":                   {url: "http://u:SECRET@h"},
		`OTEL_EXPORTER_OTLP_PROTOCOL is "grpc"`:                            {url: "http://h", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
		`OTEL_EXPORTER_OTLP_COMPRESSION is "zstd"`:                         {url: "http://h", "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"},
		`OTEL_EXPORTER_OTLP_METRICS_TIMEOUT is "10s"`:                      {url: "http://h", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "10s"},
		`OTEL_METRIC_EXPORT_INTERVAL is "0"`:                               {url: "http://h", "OTEL_METRIC_EXPORT_INTERVAL": "0"},
		"OTEL_EXPORTER_OTLP_HEADERS: want key=value":                       {url: "http://h", "OTEL_EXPORTER_OTLP_HEADERS": "SECRET"},
		"OTEL_RESOURCE_ATTRIBUTES: want key=value":                         {url: "http://h", "OTEL_RESOURCE_ATTRIBUTES": "a=%zz"},
		"OTEL_EXPORTER_OTLP_HEADERS: a name or a value in it":              {url: "http://h", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=SECRET%0Ax"},
		"OTEL_EXPORTER_OTLP_METRICS_HEADERS: a name or a value in it":      {url: "http://h", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "api key=SECRET"},
		"OTEL_EXPORTER_OTLP_CLIENT_KEY go together":                        {url: "http://h", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "c.pem"},
	} {
		_, err := Options{}.push(func(k string) string { return env[k] })
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%v: %v", env, err)
		}
	}
	if _, err := (Options{OTLP: "collector"}).push(func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "--otlp: want the URL") {
		t.Errorf("the flag: %v", err)
	}
	p, err := Options{}.push(func(k string) string {
		return map[string]string{url: "https://h:4318/", "OTEL_EXPORTER_OTLP_TIMEOUT": "250", "OTEL_METRIC_EXPORT_INTERVAL": "15000", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "a=b"}[k]
	})
	if err != nil || p.url != "https://h:4318/v1/metrics" || p.timeout != 250*time.Millisecond || p.every != 15*time.Second || p.gzip || p.header.Get("a") != "b" {
		t.Errorf("%+v, %v", p, err)
	}
}
