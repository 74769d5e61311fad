package health

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/worker"
)

// blank is a UI that shows nothing.
type blank struct{ log *zap.Logger }

func (blank) Line(string)                         {}
func (blank) Scan() (func(data.Progress), func()) { return func(data.Progress) {}, func() {} }
func (b blank) Screen(uint64) run.Screen          { return b }
func (blank) Event(string, string, map[string]any) {
}
func (blank) Script(string, map[string]any)           {}
func (blank) Say(string)                              {}
func (blank) Step(run.Metrics)                        {}
func (blank) Members(cluster.Phase, []cluster.Member) {}
func (blank) Saved(uint64)                            {}
func (blank) Standing() (uint64, string)              { return 0, "" }
func (blank) Close()                                  {}
func (b blank) Log() (*zap.Logger, error)             { return b.log, nil }

// get asks for a path of what said where it listens.
func get(t *testing.T, said, path string) (status int, body string) {
	t.Helper()
	r, err := http.Get(regexp.MustCompile(`http://[^/]*`).FindString(said) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// shown is a run of which everything has been said once, and a worker.
func shown(t *testing.T) (coordinator, works string) {
	t.Helper()
	o := Options{Listen: "127.0.0.1:0", Version: "v1", Job: "j", Role: "coordinator"}
	r := NewRun(o, 100, 12)
	ui := r.UI(blank{zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.DebugLevel))})
	end, err := r.Serve(func() cluster.Pulse { return cluster.Pulse{Leads: true, Looked: time.Now(), Stalls: 4} }, func(s string) { coordinator = s })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	s := ui.Screen(40)
	log, _ := s.Log()
	log.Warn("w")
	log.Error("e")
	log.Error("e")
	s.Saved(40) // it was there
	m := func(id string, pid int, status cluster.Status) cluster.Member {
		return cluster.Member{Join: cluster.Join{Worker: id, PID: pid}, Status: status}
	}
	s.Members(cluster.Running, []cluster.Member{m("a", 1, cluster.Listening), m("b", 2, cluster.Stepping), m("c", 3, cluster.Loading)})
	s.Members(cluster.Running, []cluster.Member{m("a", 7, cluster.Listening), m("b", 2, cluster.Stepping)}) // a has come anew, c has gone
	s.Step(run.Metrics{Step: 41, Loss: 2, GradNorm: 3, LR: 0.5, SamplesSec: 24, Generation: 5, Time: cluster.Times{Step: 0.5, Backward: 0.25}})
	s.Step(run.Metrics{Step: 42, Generation: 6, Refused: "not finite", Time: cluster.Times{Step: 0.5, Backward: 0.25}})
	s.Saved(42)
	for _, sink := range r.Sinks(nil) {
		if err := sink.Put(t.Context(), run.Records{Measured: []run.Measured{{Heldout: run.Heldout{Step: 42, Loss: 1.5, Metrics: []run.HeldoutMetric{{Name: "l1", Value: 0.75}}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	var w Worker
	w.Watch(func() worker.Standing {
		return worker.Standing{Loaded: true, Step: 42, Steps: 2, Micro: 6, Stalls: 1, Faults: 3, Busy: 2 * time.Second, Silence: time.Second, Sent: worker.Sent{Shared: 7, NATS: 8, Direct: 9}}
	})
	o.Role = "worker"
	end, err = w.Serve(o, time.Minute, func(s string) { works = s })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return coordinator, works
}

// What is said on a run's screen, and a worker's standing, is what a scrape has.
func TestFigures(t *testing.T) {
	c, w := shown(t)
	for where, want := range map[string][]string{c: {
		"vlaring_run_step 42", "vlaring_run_planned_steps 100", "vlaring_run_steps_total 2", "vlaring_run_samples_total 24", "vlaring_run_refused_steps_total 1", "vlaring_run_loss 2",
		"vlaring_run_gradient_norm 3", "vlaring_run_learning_rate 0.5", "vlaring_run_samples_per_second 0", "vlaring_run_step_duration_seconds_count 2", "vlaring_run_step_duration_seconds_sum 1",
		`vlaring_run_part_seconds_total{part="backward"} 0.5`, `vlaring_run_heldout{metric="loss"} 1.5`, `vlaring_run_heldout{metric="l1"} 0.75`, "vlaring_run_heldout_step 42",
		`vlaring_cluster_workers{state="training"} 2`, `vlaring_cluster_workers{state="waiting"} 0`, `vlaring_cluster_phase{phase="running"} 1`, `vlaring_cluster_phase{phase="gathering"} 0`,
		"vlaring_cluster_generation 6", "vlaring_cluster_joins_total 4", "vlaring_cluster_losses_total 2", "vlaring_cluster_stalls_total 4", "vlaring_checkpoint_step 42", "vlaring_checkpoint_stored_total 1",
		`vlaring_log_messages_total{level="warn"} 1`, `vlaring_log_messages_total{level="error"} 2`, `vlaring_info{name="j",role="coordinator",version="v1"} 1`,
	}, w: {
		"vlaring_worker_step 42", "vlaring_worker_steps_total 2", "vlaring_worker_micro_batches_total 6", "vlaring_worker_stalls_total 1", "vlaring_worker_frame_faults_total 3", "vlaring_worker_busy_seconds 2",
		`vlaring_worker_gradient_bytes_total{road="shm"} 7`, `vlaring_worker_gradient_bytes_total{road="nats"} 8`, `vlaring_worker_gradient_bytes_total{road="direct"} 9`,
		"vlaring_worker_coordinator_silence_seconds 1",
	}} {
		status, text := get(t, where, "/metrics")
		lines := strings.Split(text, "\n")
		for _, l := range want {
			if !slices.Contains(lines, l) {
				t.Errorf("%s (%d) has no line %q", where, status, l)
			}
		}
	}
}

var name = regexp.MustCompile(`(?m)^# TYPE (vlaring_\w+) `)

// names are the metrics of this program at an address.
func names(t *testing.T, where string) (l []string) {
	_, text := get(t, where, "/metrics")
	for _, m := range name.FindAllStringSubmatch(text, -1) {
		l = append(l, m[1])
	}
	if len(l) < 8 {
		t.Fatalf("%s has %d metrics", where, len(l))
	}
	return l
}

// Prometheus' own rules find no fault with names, units and help.
func TestConventions(t *testing.T) {
	c, w := shown(t)
	for _, where := range []string{c, w} {
		_, text := get(t, where, "/metrics")
		found, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// docs/operations.md, alerts and dashboard name metrics that are there, and the
// document names all of them.
func TestMetricsAreDocumented(t *testing.T) {
	c, w := shown(t)
	there := append(names(t, c), names(t, w)...)
	said := regexp.MustCompile(`\bvlaring_(run|cluster|checkpoint|worker|log|info)\w*`)
	for i, file := range []string{"../../docs/operations.md", "../../k8s/components/monitoring/alerts.yaml", "../../k8s/components/monitoring/dashboard.json"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for _, n := range said.FindAllString(string(b), -1) {
			plain := n
			for _, s := range []string{"_bucket", "_count", "_sum"} {
				plain = strings.TrimSuffix(plain, s)
			}
			if !slices.Contains(there, n) && !slices.Contains(there, plain) {
				t.Errorf("%s names %s, which there is not", file, n)
			}
			named[n] = true
		}
		for _, n := range there {
			if i == 0 && !named[n] {
				t.Errorf("%s lacks %s", file, n)
			}
		}
		if len(named) < 8 {
			t.Errorf("%s names %d metrics: does this test still see them?", file, len(named))
		}
	}
}

// What a process is ended for, and what not.
func TestProbes(t *testing.T) {
	now := time.Unix(1e9, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for what, c := range map[string]struct {
		got  error
		want string
	}{
		"coordinator that reads its data":    {alive(cluster.Pulse{}, now), ""},
		"coordinator whose loop goes round":  {alive(cluster.Pulse{Leads: true, Looked: ago(time.Second)}, now), ""},
		"coordinator whose loop is stuck":    {alive(cluster.Pulse{Leads: true, Looked: ago(2 * time.Minute)}, now), "has not gone round for 2m0s"},
		"worker that looks for its job":      {hung(worker.Standing{}, time.Minute, now), ""},
		"worker whose step goes on":          {hung(worker.Standing{Looked: now, Busy: 59 * time.Second}, time.Minute, now), ""},
		"worker whose step stands still":     {hung(worker.Standing{Looked: now, Step: 7, Busy: 61 * time.Second}, time.Minute, now), "the step after 7 stands still here"},
		"worker that may stand still":        {hung(worker.Standing{Looked: now, Busy: time.Hour}, 0, now), ""},
		"worker whose driver is stuck":       {hung(worker.Standing{Looked: ago(2 * time.Minute)}, 0, now), "has not looked at its messages for 2m0s"},
		"leads":                              {leads(cluster.Pulse{Leads: true}), ""},
		"does not lead yet":                  {leads(cluster.Pulse{}), "not this coordinator's"},
		"takes part":                         {takesPart(worker.Standing{Loaded: true, Silence: time.Second}), ""},
		"has not loaded":                     {takesPart(worker.Standing{}), "not joined and loaded"},
		"its coordinator has not been heard": {takesPart(worker.Standing{Loaded: true, Silence: time.Minute}), "no coordinator has been heard for 1m0s"},
	} {
		switch {
		case c.want == "" && c.got != nil:
			t.Errorf("%s: %v", what, c.got)
		case c.want != "" && (c.got == nil || !strings.Contains(c.got.Error(), c.want)):
			t.Errorf("%s: %v, want %q", what, c.got, c.want)
		}
	}
}

// A failed check is a 503 with its reason.
func TestStatus(t *testing.T) {
	o := Options{Listen: "127.0.0.1:0"}
	reg := prometheus.NewRegistry()
	s, err := serve(o, func() error { return nil }, func() error { return fmt.Errorf("not yet") }, reg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for path, want := range map[string]string{"/healthz": "200 ok\n", "/readyz": "503 not yet\n", "/": "200 /healthz /readyz /metrics\n", "/debug/pprof/": "404 404 page not found\n", "/x": "404 404 page not found\n"} {
		status, body := get(t, s.where(), path)
		if got := fmt.Sprintf("%d %s", status, body); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	o.Pprof = true
	p, err := serve(o, func() error { return nil }, func() error { return nil }, reg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if status, body := get(t, p.where(), "/debug/pprof/"); status != 200 || !strings.Contains(body, "goroutine") {
		t.Errorf("profiles: %d", status)
	}
}

// Connections that say nothing take no more than their number, and a probe is
// answered as soon as one of them has gone.
func TestSilentConnections(t *testing.T) {
	s, err := serve(Options{Listen: "127.0.0.1:0"}, func() error { return nil }, func() error { return nil }, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var silent []net.Conn
	for range maxConns {
		c, err := net.Dial("tcp", s.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	ask := func() error {
		c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := c.Get("http://" + s.l.Addr().String() + "/healthz")
		if err == nil {
			r.Body.Close()
		}
		return err
	}
	refused := false
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end) && !refused; { // the last ones may not have been accepted yet
		refused = ask() != nil
	}
	if !refused {
		t.Errorf("one connection more than %d was served", maxConns)
	}
	silent[0].Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := ask(); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatalf("nobody is answered though one has gone: %v", err)
		}
	}
}

// Flags that cannot be are refused by name.
func TestWrongOptions(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for listen, want := range map[string]string{"8080": `--health "8080": want host:port`, taken.Addr().String(): "--health cannot listen on " + taken.Addr().String(), "": "--pprof shows profiles at the address of --health"} {
		for role, serve := range map[string]func() error{
			"coordinator": func() error {
				_, err := NewRun(Options{Listen: listen, Pprof: true}, 1, 1).Serve(func() cluster.Pulse { return cluster.Pulse{} }, func(string) {})
				return err
			},
			"worker": func() error {
				_, err := new(Worker).Serve(Options{Listen: listen, Pprof: true}, 0, func(string) {})
				return err
			},
		} {
			if err := serve(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, --health %q: %v, want %q", role, listen, err, want)
			}
		}
	}
}

// Without an address nothing stands between a run and its UI.
func TestOff(t *testing.T) {
	r := NewRun(Options{}, 1, 1)
	if ui, ok := r.UI(blank{}).(blank); !ok || len(r.Sinks(nil)) != 0 {
		t.Errorf("a UI %T and %d sinks", ui, len(r.Sinks(nil)))
	}
}
