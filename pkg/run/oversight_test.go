package run

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/objects/s3test"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/transport"
	"github.com/vlaring/vlaring/pkg/worker"
)

// forger is a worker's bus that changes its worker's program once that has loaded the
// job: of each ten micro-batches that it sends, it multiplies the gradient of one by
// -1.01. What it computes again for others it computes right.
type forger struct {
	cluster.Bus
	w    *worker.Worker
	once sync.Once
	lies *atomic.Int64
}

func (f *forger) Publish(subject string, data []byte) error {
	if strings.Contains(string(data), `"kind":"ready"`) { // the driver says so, when loading is over
		f.once.Do(f.forge)
	}
	return f.Bus.Publish(subject, data)
}

// inside is a field of a value that another package keeps to itself.
func inside(v reflect.Value, name string) reflect.Value {
	f := reflect.Indirect(v).FieldByName(name)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
}

func (f *forger) forge() {
	trainer := inside(reflect.ValueOf(f.w), "trainer")
	prog := inside(trainer, "prog")
	ready := inside(inside(prog, "tape"), "onGrad").Interface().(func(*tensor.Param))
	verify := inside(trainer, "verify")
	n := 0
	for _, p := range inside(trainer, "params").Interface().(*tensor.Params).List() {
		if !p.Frozen {
			n++
		}
	}
	calls, sent, lies := 0, 0, false
	prog.Interface().(*models.Program).OnGrad(func(p *tensor.Param) {
		if calls%n == 0 { // a backward pass begins
			scratch := inside(verify, "scratch").Interface().([]float32)
			at, lo := uintptr(unsafe.Pointer(&p.Grad[0])), uintptr(unsafe.Pointer(unsafe.SliceData(scratch)))
			again := len(scratch) > 0 && at >= lo && at < lo+uintptr(4*len(scratch))
			if lies = false; !again {
				lies = sent%10 == 6
				sent++
			}
			if lies {
				f.lies.Add(1)
			}
		}
		calls++
		if lies {
			for i := range p.Grad {
				p.Grad[i] *= -1.01
			}
		}
		ready(p)
	})
}

// overseen is a run whose workers are honest, but for those that are named.
type overseen struct {
	dir   string
	lies  atomic.Int64
	names map[string]string // how each worker ended
}

func (o *overseen) events(t *testing.T, kind string) (lines []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(o.dir, EventsFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) == nil && e["event"] == kind {
			lines = append(lines, e)
		}
	}
	return lines
}

// oversee trains testdata/small.yaml with keys of its own over workers in this process,
// of which the last ones lie.
func oversee(t *testing.T, dir string, workers, liars int, set ...string) *overseen {
	t.Helper()
	text, err := os.ReadFile("testdata/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	kinds := train.Kinds()
	j, err := kinds.Parse("small.yaml", text, append([]string{fmt.Sprintf("cluster.workers=%d", workers), "cluster.min_workers=1",
		"cluster.join_timeout=60s", "batch={global: 8, micro: 1}", "model={kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2, action_dim: 7, dropout: 0.1}"}, set...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	o := &overseen{dir: dir, names: map[string]string{}}
	kind := transport.NewMemory()
	r := New(Options{Job: j, BaseDir: dir, Dir: dir, Threads: 1, UI: unseen{}, Version: "test", Resume: regularFile(filepath.Join(dir, JobCopy)),
		Server: Server{Transport: kind, Credentials: func(func(string)) (transport.Credentials, error) { return transport.Credentials{}, nil }}})
	os.Remove(filepath.Join(dir, AddressFile))
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan error, 1)
	go func() { done <- r.Train(ctx) }()
	var at Address
	for at.URL == "" {
		select {
		case err := <-done:
			t.Fatalf("the run ended before anybody could join: %v", err)
		case <-time.After(5 * time.Millisecond):
			at, _ = ReadAddress(dir)
		}
	}
	var mu sync.Mutex
	for i := range workers {
		id := fmt.Sprint("w", i)
		m, err := kind.Dial(ctx, at.URL, transport.Credentials{Token: at.Token}, transport.Options{Job: j.Name, Member: id})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		net, err := m.Network()
		if err != nil {
			t.Fatal(err)
		}
		blobs, err := m.Blobs(nil)
		if err != nil {
			t.Fatal(err)
		}
		bus := &forger{Bus: m.Bus(), lies: &o.lies}
		c := worker.Config{Job: j.Name, ID: id, PID: i + 1, Host: "here", Threads: 1, DataDir: dir, RescueDir: dir, Bus: m.Bus(), Net: net, Blobs: blobs, Log: zap.NewNop()}
		if i >= workers-liars {
			c.Bus = bus
		}
		bus.w = worker.New(c)
		wg.Go(func() {
			end, err := bus.w.Run(ctx, ctx)
			mu.Lock()
			defer mu.Unlock()
			o.names[id] = fmt.Sprintf("%v: %s (%v)", end.Outcome, end.Reason, err)
		})
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return o
}

func regularFile(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.Mode().IsRegular()
}

func (o *overseen) weights(t *testing.T, step int) [32]byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(o.dir, "checkpoints", checkpoint.DirName(uint64(step)), train.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// losses are those of metrics.jsonl, one a step.
func (o *overseen) losses(t *testing.T) (l []float64) {
	t.Helper()
	lines, err := ReadMetrics(o.dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range lines {
		if m.Step != uint64(i+1) {
			t.Fatalf("line %d of %s is of step %d", i+1, MetricsFile, m.Step)
		}
		l = append(l, m.Loss)
	}
	return l
}

// One worker of four sends gradients times -1.01 in one micro-batch of ten, and of all
// micro-batches 0.05 are verified: it is named within 2,000 of them, and weights and
// losses in the end are those of a run in which nobody lied.
func TestLiarIsNamed(t *testing.T) {
	const steps = 250 // of 8 micro-batches
	fixed(t, "a secret")
	set := []string{fmt.Sprint("train.steps=", steps), "checkpoint={every: 20, keep: 2}", "train.eval_every=20"}
	honest := oversee(t, t.TempDir(), 1, 0, set...)
	o := oversee(t, t.TempDir(), 4, 1, append(set, "cluster.verify=0.05")...)
	if got, want := o.weights(t, steps), honest.weights(t, steps); got != want {
		t.Errorf("the weights are %x, those of an undisturbed run %x", got, want)
	}
	if got, want := o.losses(t), honest.losses(t); !reflect.DeepEqual(got, want) {
		t.Errorf("the losses are not those of an undisturbed run: %d lines, want %d", len(got), len(want))
	}
	named := o.events(t, "disowned")
	if len(named) != 1 || o.lies.Load() == 0 {
		t.Fatalf("after %d lies the job went back %d times: %v", o.lies.Load(), len(named), o.names)
	}
	for id, how := range o.names {
		if out := strings.Contains(how, "wrong gradients (cluster.verify)"); out != (id == "w3") {
			t.Errorf("%s ended: %s", id, how)
		}
	}
	t.Logf("named after %d lies: %s", o.lies.Load(), o.names["w3"])
	t.Log(named[0]["text"])
	evals, _, err := ReadEval(o.dir, steps)
	was, _, werr := ReadEval(honest.dir, steps)
	if err != nil || werr != nil {
		t.Fatal(err, werr)
	}
	for _, h := range evals {
		for _, w := range was {
			if h.Step == w.Step && h.Loss != w.Loss {
				t.Errorf("step %d is measured with loss %v, undisturbed %v", h.Step, h.Loss, w.Loss)
			}
		}
	}
}

// What was uploaded of steps that a liar took part in goes from the store, too, and what
// is computed again comes in its place.
func TestUploadsAreDisowned(t *testing.T) {
	s3test.Start(t, []string{"models"})
	honest := oversee(t, t.TempDir(), 1, 0, "checkpoint={every: 10, keep: 0}", "train.steps=30", "train.eval_every=0", "schedule.min_lr=", "schedule.kind=constant")
	dir := t.TempDir()
	oversee(t, dir, 3, 1, "checkpoint={every: 5, keep: 0, upload: s3://models/run}", "train.steps=30", "train.eval_every=0", "cluster.verify=1e-9", "schedule.min_lr=", "schedule.kind=constant")
	steps := func() (l []uint64) {
		m, err := openMirror(t.Context(), &job.Job{Checkpoint: job.Checkpoint{Upload: "s3://models/run"}}, dir)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := m.to.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			r, err := m.to.Open(e.Step)
			if err != nil {
				t.Fatal(err)
			}
			was, err := checkpoint.ReadManifest(filepath.Join(honest.dir, "checkpoints", checkpoint.DirName(e.Step)))
			if sum := r.Manifest().File(train.ModelFile).SHA256; err == nil && sum == was.File(train.ModelFile).SHA256 {
				l = append(l, e.Step)
			} else {
				l = append(l, 1000+e.Step) // of a step that is wrong
			}
			r.Close()
		}
		return l
	}
	if l := steps(); !slices.Equal(l, []uint64{1005, 1010, 1015, 1020, 1025, 1030}) {
		t.Fatalf("uploaded are %v, want six checkpoints that are wrong", l)
	}
	o := oversee(t, dir, 3, 1, "checkpoint={every: 10, keep: 0, upload: s3://models/run}", "train.steps=40", "train.eval_every=0", "cluster.verify=1", "schedule.min_lr=", "schedule.kind=constant")
	if len(o.events(t, "disowned")) != 1 {
		t.Fatalf("nothing was dropped: %v", o.names)
	}
	if l := steps(); !slices.Equal(l, []uint64{10, 20, 30, 1040}) {
		t.Errorf("uploaded are %v, want those of steps 10, 20 and 30 as computed again, and 40", l)
	}
}

// fixed has runs of a test draw the same secret: what is verified is the same each time.
func fixed(t *testing.T, secret string) {
	was := draw
	t.Cleanup(func() { draw = was })
	draw = func(b []byte) { copy(b, secret) }
}

// What a liar has taken part in before a resume is dropped, too: the run goes back to
// before it first took part, whichever coordinator finds it. The first weights are
// then those of the job's file, though the run that is resumed went on from a checkpoint.
func TestLiarIsNamedAfterAResume(t *testing.T) {
	first := oversee(t, t.TempDir(), 1, 0, "train.steps=4", "seed=5")
	init := "init=" + filepath.Join(first.dir, "checkpoints", checkpoint.DirName(4), train.ModelFile)
	set := []string{init, "checkpoint={every: 10, keep: 0}", "train.eval_every=10"}
	honest := oversee(t, t.TempDir(), 1, 0, append(set, "train.steps=40", "schedule.kind=constant", "schedule.min_lr=")...)
	dir := t.TempDir()
	set = append(set, "schedule.kind=constant", "schedule.min_lr=")
	oversee(t, dir, 3, 0, append(set, "train.steps=10", "cluster.verify=1e-9")...)
	o := oversee(t, dir, 4, 1, append(set, "train.steps=30", "cluster.verify=1e-9")...) // nobody sees it
	if o.weights(t, 20) == honest.weights(t, 20) {
		t.Fatal("the liar does nothing")
	}
	o = oversee(t, dir, 4, 1, append(set, "train.steps=40", "cluster.verify=1")...)
	named := o.events(t, "disowned")
	if len(named) != 1 || named[0]["after"] != 10.0 {
		t.Errorf("dropped was what came after %v, want after step 10, from when on w3 took part: %v", named, o.names)
	}
	for _, step := range []int{10, 20, 30, 40} {
		if got, want := o.weights(t, step), honest.weights(t, step); got != want {
			t.Errorf("the weights of step %d are %x, those of an undisturbed run %x", step, got, want)
		}
	}
	if got, want := o.losses(t), honest.losses(t); !reflect.DeepEqual(got, want) {
		t.Errorf("the losses are not those of an undisturbed run: %d lines, want %d", len(got), len(want))
	}
	aside, err := os.ReadDir(filepath.Join(dir, disownedDir))
	if err != nil || len(aside) != 2 {
		t.Errorf("set aside are %v (%v), want the checkpoints of steps 20 and 30", aside, err)
	}
}

// A coordinator that died while it dropped what was wrong has the next one go on with
// that before it begins.
func TestDroppingGoesOn(t *testing.T) {
	dir := t.TempDir()
	set := []string{"checkpoint={every: 10, keep: 0}", "train.eval_every=10", "cluster.verify=1"}
	was := oversee(t, dir, 2, 0, append(set, "train.steps=30")...)
	want := was.weights(t, 30)
	if b, err := os.ReadFile(filepath.Join(dir, verifyFile)); err != nil || !strings.Contains(string(b), `"w1": 0`) {
		t.Errorf("%s has %s (%v)", verifyFile, b, err)
	}
	if err := os.WriteFile(filepath.Join(dir, verifyFile), []byte(`{"since": {"w0": 0}, "dropping": 10}`), 0o644); err != nil {
		t.Fatal(err)
	}
	o := oversee(t, dir, 1, 0, append(set, "train.steps=30")...)
	if n := len(o.events(t, "disowned")); n != 1 {
		t.Errorf("%d times something was dropped, want once", n)
	}
	if got := o.weights(t, 30); got != want {
		t.Errorf("the weights are %x, want %x", got, want)
	}
	if n := len(o.losses(t)); n != 30 {
		t.Errorf("%d lines of metrics, want 30", n)
	}
	if b, err := os.ReadFile(filepath.Join(dir, verifyFile)); err != nil || strings.Contains(string(b), "dropping") {
		t.Errorf("%s still has %s (%v)", verifyFile, b, err)
	}
}

// Two goroutines write records: an older one that comes later does not undo who was put
// out. And of what is to be dropped nothing is forgotten for less that is dropped later.
func TestOversightInAnyOrder(t *testing.T) {
	dir := t.TempDir()
	o, err := readOversight(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := cluster.Record{Since: map[string]uint64{"w0": 0}, Out: map[string]string{"w1": "a lie"}, Fence: 7, Edition: 3}
	for _, f := range []func(*oversight){
		func(o *oversight) { o.take(out); o.drop(10, true) },
		func(o *oversight) {
			o.take(cluster.Record{Since: map[string]uint64{"w0": 0, "w1": 5}, Edition: 2}) // it has waited behind a disk
		},
		func(o *oversight) { o.Dropping = nil }, // the store is away
		func(o *oversight) { o.drop(50, true) },
	} {
		if err := o.change(f); err != nil {
			t.Fatal(err)
		}
	}
	if o, err = readOversight(dir); err != nil {
		t.Fatal(err)
	}
	is := o.now()
	if !reflect.DeepEqual(is.Record, out) {
		t.Errorf("the record is %+v, want %+v", is.Record, out)
	}
	if is.Dropping == nil || *is.Dropping != 50 || is.Uploaded == nil || *is.Uploaded != 10 {
		t.Errorf("dropped is what came after %v, and in the store after %v: want 50 and 10", is.Dropping, is.Uploaded)
	}
}
