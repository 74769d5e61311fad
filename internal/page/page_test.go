package page

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, dir, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func root(t testing.TB, dir string) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// A tail passes on each whole line once, whenever it comes; and all again where the file
// is another one, even of the same length and beginning.
func TestTail(t *testing.T) {
	dir := t.TempDir()
	tl := tail{name: "f"}
	var got []string
	anew := 0
	read := func() string {
		t.Helper()
		got = nil
		if err := tl.read(root(t, dir), 8<<20, func() { anew++ }, func(_ int64, b []byte) { got = append(got, string(b)) }); err != nil {
			t.Fatal(err)
		}
		return strings.Join(got, "|")
	}
	check := func(want string, news int) {
		t.Helper()
		if is := read(); is != want || anew != news {
			t.Fatalf("read %.99q and began anew %d times, want %.99q and %d", is, anew, want, news)
		}
	}
	check("", 0)
	write(t, dir, "f", "one\ntw")
	check("one", 0)
	check("", 0)
	add(t, dir, "f", "o\n\nthree\n")
	check("two|three", 0)
	write(t, dir, "f", "one\n") // resumed: cut off
	check("one", 1)
	add(t, dir, "f", "zwei\n")
	check("zwei", 1)
	write(t, dir, "f", "one\nzwo!\nthree\n") // cut off and grown beyond its place between two looks
	check("one|zwo!|three", 2)
	long := strings.Repeat("x", maxLine+chunk)
	add(t, dir, "f", long+"\nafter\n")
	check("after", 2)
	add(t, dir, "f", strings.Repeat("y", chunk+10)+"\n")
	check(strings.Repeat("y", chunk+10), 2)
	os.Remove(filepath.Join(dir, "f"))
	check("", 3)
}

// flattenSlow is what the flattener does, by encoding/json.
func flattenSlow(b []byte) (out map[string]float64, ok bool) {
	out = map[string]float64{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case float64:
			out[path] = v
		case map[string]any:
			for k, x := range v {
				if path != "" {
					walk(path+"."+k, x)
				} else {
					walk(k, x)
				}
			}
		}
	}
	var v map[string]any
	if json.Unmarshal(b, &v) != nil {
		return nil, false
	}
	walk("", v)
	return out, true
}

func TestFlatten(t *testing.T) {
	lines := []string{
		`{}`, `{"step":1,"loss":0.5,"time":{"data":1e-3,"step":2},"ok":true,"no":null}`, `{"a":[1,{"b":2},[3]],"c":{"d":{"e":-4.5E+2}}}`,
		`{"refused":"step 3: \"nan\"","loss":0}`, `{"a\u0062":1, "x" : 2 }`, `{"sets":{"a.b":{"loss":1}}}`, `{"s":"\\","n":3}`,
		`{"step":1`, `{"step":1}x`, `{"step":}`, `[1]`, `{"a":1,}`, `{"a" 1}`, `{"a":tru}`, ``, `{`, `{"a":"`, `{"a":1e999}`, `{"a":--1}`,
	}
	for _, l := range lines {
		var f flattener
		pairs, _, ok := f.line([]byte(l))
		want, wantOK := flattenSlow([]byte(l))
		if ok != wantOK {
			t.Errorf("%s: read %v, want %v", l, ok, wantOK)
			continue
		}
		got := map[string]float64{}
		for _, p := range pairs {
			got[p.key] = p.value
		}
		if ok && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", l, got, want)
		}
	}
	var f flattener
	if _, refused, _ := f.line([]byte(`{"step":3,"refused":"step 3: \"nan\""}`)); refused != `step 3: "nan"` {
		t.Errorf("refused: %q", refused)
	}
	if _, _, ok := f.line([]byte(strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000))); ok {
		t.Error("a thousand objects within each other were read")
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, `,"k%d":1`, i)
	}
	if pairs, _, ok := f.line([]byte("{" + many.String()[1:] + "}")); !ok || len(pairs) > maxKeys {
		t.Errorf("%d keys of a thousand", len(pairs))
	}
}

func FuzzFlatten(f *testing.F) {
	f.Add([]byte(`{"step":1,"time":{"a":[{}]},"refused":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) { // nothing but no panic: where it is laxer than encoding/json, a line of ours is read
		var x flattener
		x.line(b)
	})
}

// However many steps there are, a curve has the means, the extremes and the sums of
// what a plain list of them has, and no more points than it may.
func TestCurve(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 7, maxBuckets, maxBuckets + 1, 3*maxBuckets + 5, 20 * maxBuckets} {
		c := newCurve()
		var steps []uint64
		var values []float64
		step, sum := uint64(rnd.IntN(3)), 0.0
		for i := range n {
			step += 1 + uint64(rnd.IntN(2))
			v := rnd.NormFloat64()
			pairs := []pair{{"loss", v}}
			if i%3 == 0 {
				pairs = append(pairs, pair{"seldom", v})
			}
			c.add(step, int64(i), pairs)
			c.add(step, int64(i), pairs) // told again: it counts once
			steps, values, sum = append(steps, step), append(values, v), sum+v
		}
		if len(c.spans) > maxBuckets || c.lines != n {
			t.Fatalf("%d steps: %d buckets of %d lines", n, len(c.spans), c.lines)
		}
		if d := math.Abs(c.total("loss") - sum); d > 1e-9*float64(n) {
			t.Errorf("%d steps: the sum is off by %g", n, d)
		}
		at := 0
		for b, s := range c.spans {
			low, high, total, count := math.Inf(1), math.Inf(-1), 0.0, uint32(0)
			first := at
			for ; at < n && steps[at] <= s.last; at++ {
				low, high, total, count = min(low, values[at]), max(high, values[at]), total+values[at], count+1
			}
			x := c.columns[c.number["loss"]][b]
			if steps[first] != s.first || int64(first) != s.off || x.n != count || x.low != low || x.high != high || math.Abs(x.sum-total) > 1e-9*float64(count) {
				t.Fatalf("%d steps, bucket %d, %v: %+v, want %d values, %g to %g", n, b, s, x, count, low, high)
			}
		}
		if at != n {
			t.Errorf("%d of %d steps are in no bucket", n-at, n)
		}
		from, to := steps[n/3], steps[n/2]
		begin, end := c.bytesOf(from, to, int64(n))
		if begin > int64(n/3) || end < int64(n/2)+1 && end != int64(n) {
			t.Errorf("%d steps: lines %d to %d for those of %d to %d", n, begin, end, n/3, n/2)
		}
	}
}

// job is the smallest that the kinds accept.
const testJob = "name: x\nmodel: {preset: low}\ndata: {kind: tabletop}\nbatch: {global: 8, micro: 4}\ntrain: {steps: 500}\n"

func metricsLine(step int, loss float64) string {
	return fmt.Sprintf(`{"step":%d,"loss":%g,"grad_norm":1,"lr":0.1,"samples_per_s":10,"world":2,"generation":1,"targets":8,"time":{"data":0.1,"forward":0.2,"backward":0.3,"ring":0.1,"optimizer":0.1,"step":0.8}}`+"\n", step, loss)
}

// theRun is a run directory in which so many steps are done.
func theRun(t testing.TB, dir string, steps int) {
	var b strings.Builder
	for i := range steps {
		b.WriteString(metricsLine(i+1, 1/float64(i+1)))
	}
	write(t, dir, run.MetricsFile, b.String())
	write(t, dir, run.JobCopy, testJob)
	write(t, dir, run.OriginFile, `{"job_file":"x.yaml","base_dir":"/","state":"running","step":0,"data":"sha256:x"}`)
	write(t, dir, run.EvalFile, `{"step":10,"samples":5,"loss":0.5,"l1":0.25,"sets":{"a":{"loss":1}},"seconds":1}`+"\n")
}

func look(t testing.TB, r *reader) *overview {
	t.Helper()
	b, err := r.overview("", "")
	if err != nil {
		t.Fatal(err)
	}
	var o overview
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	return &o
}

func (n *number) UnmarshalJSON(b []byte) error { // of tests
	var f *float64
	err := json.Unmarshal(b, &f)
	if *n = number(math.NaN()); f != nil {
		*n = number(*f)
	}
	return err
}

func TestReader(t *testing.T) {
	dir := t.TempDir()
	theRun(t, dir, 20)
	r := newReader(spot{"x", dir, "."}, train.Kinds())
	o := look(t, r)
	if o.State != "running" || o.Step != 20 || o.Last["loss"] != 0.05 || o.Phases["ring"] != 2 || math.Abs(o.Seconds-16) > 1e-9 {
		t.Errorf("it is %+v", o)
	}
	if o.Steps != 500 || o.Global != 8 || math.Abs(o.Left-480*0.8) > 1e-6 {
		t.Errorf("of the job: %d steps of %d samples, %g s left", o.Steps, o.Global, o.Left)
	}
	if b, err := r.overview(o.Version, ""); b != nil || err != nil {
		t.Errorf("nothing has changed, and it is told again: %s, %v", b, err)
	}
	var again overview
	if b, err := r.overview("", o.Told); err != nil || json.Unmarshal(b, &again) != nil || again.Story != nil || o.Story == nil {
		t.Errorf("the story is told again: %s, %v", b, err)
	}
	c, err := r.curves(asked{})
	if err != nil || len(c.Train.First) != 20 || c.Held.Keys["l1"].Mean[0] != 0.25 || c.Held.Keys["sets.a.loss"].Mean[0] != 1 {
		t.Errorf("curves %+v (%v)", c, err)
	}
	add(t, dir, run.MetricsFile, `{"step":21,"loss":0,"grad_norm":0,"targets":0,"refused":"step 21: not finite","world":2}`+"\n"+metricsLine(22, 7)+"{torn\n"+`{"step":23,"lo`)
	c, err = r.curves(asked{epoch: c.Epoch, width: 1, since: 20})
	if err != nil || c.Since != 20 || !slices.Equal(c.Train.First, []uint64{20, 21, 22}) || !math.IsNaN(float64(c.Train.Keys["loss"].Mean[1])) || c.Train.Keys["loss"].Mean[2] != 7 {
		t.Errorf("what is new: %+v (%v)", c, err)
	}
	o2 := look(t, r)
	if len(o2.Refused) != 1 || o2.Refused[0] != (refusal{21, "step 21: not finite"}) || o2.Bad != 1 || o2.Version == o.Version {
		t.Errorf("refused %v, bad %d", o2.Refused, o2.Bad)
	}
	epoch := c.Epoch
	theRun(t, dir, 5) // resumed from step 5
	if c, err = r.curves(asked{epoch: epoch, width: 1, since: 22}); err != nil || c.Since != 0 || len(c.Train.First) != 5 || c.Epoch == epoch {
		t.Errorf("after a resume: %+v (%v)", c, err)
	}
	r.now = func() time.Time { return time.Now().Add(time.Hour) }
	if o := look(t, r); o.State != "silent" || !strings.Contains(o.Said, "coordinator has died") {
		t.Errorf("an hour later it is %s, %s", o.State, o.Said)
	}
	write(t, dir, run.OriginFile, `{"state":"done","step":5}`)
	if o := look(t, r); o.State != "done" || o.Said != "done at step 5" {
		t.Errorf("at its end it is %s, %s", o.State, o.Said)
	}
}

// A directory in which nothing, or nonsense, lies is told as it is.
func TestReaderOfNonsense(t *testing.T) {
	dir := t.TempDir()
	r := newReader(spot{"x", dir, "."}, train.Kinds())
	if o := look(t, r); o.State != "unknown" || o.Step != 0 {
		t.Errorf("of nothing: %+v", o)
	}
	for _, name := range []string{run.MetricsFile, run.EvalFile, run.EventsFile, run.JobCopy, run.OriginFile} {
		write(t, dir, name, "\x00\xff{\"step\":\"x\",\n{\"step\":-1,\"loss\":1e400}\n[]\n")
	}
	write(t, dir, "checkpoints/step-00000010/manifest.json", "{")
	o := look(t, r)
	if o.State != "unknown" || o.Step != 0 || o.Bad == 0 || len(o.Checkpoints) != 1 || o.Checkpoints[0].Problem == "" {
		t.Errorf("of nonsense: %+v", o)
	}
	if err := os.Remove(filepath.Join(dir, run.MetricsFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, run.MetricsFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := r.overview("", ""); err == nil {
		t.Error("a folder in the place of metrics.jsonl is no error")
	}
}

// A part of a long run is read again, step by step.
func TestZoom(t *testing.T) {
	dir := t.TempDir()
	theRun(t, dir, 3*maxBuckets)
	r := newReader(spot{"x", dir, "."}, train.Kinds())
	c, err := r.curves(asked{})
	if err != nil || c.Train.Width != 4 || len(c.Train.Keys["loss"].Low) != len(c.Train.First) {
		t.Fatalf("width %d, %v", c.Train.Width, err)
	}
	c, err = r.curves(asked{from: 3001, to: 3100})
	if err != nil || !c.Exact || len(c.Train.First) != 100 || c.Train.First[0] != 3001 || c.Train.Keys["loss"].Mean[99] != number(1/3100.) {
		t.Errorf("a part: %d of width %d from %v (%v)", len(c.Train.First), c.Train.Width, c.Train.First[:1], err)
	}
}

// A million steps open within seconds, in little memory. The time is said, not judged:
// machines of tests are shared.
func BenchmarkMillionSteps(b *testing.B) {
	dir := b.TempDir()
	theRun(b, dir, 1_000_000)
	b.ResetTimer()
	for range b.N {
		r := newReader(spot{"x", dir, "."}, train.Kinds())
		for share := 0.0; share < 1; {
			c, err := r.curves(asked{})
			if err != nil {
				b.Fatal(err)
			}
			share = c.Read
		}
	}
}

// Checkpoints are listed again where one has come or gone, and not with each look.
func TestCheckpointsAreListedWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	theRun(t, dir, 3)
	write(t, dir, "checkpoints/step-00000001/manifest.json", "{")
	earlier := time.Now().Add(-time.Hour) // than what a coarse clock may hide
	if err := os.Chtimes(filepath.Join(dir, "checkpoints"), earlier, earlier); err != nil {
		t.Fatal(err)
	}
	r := newReader(spot{"x", dir, "."}, train.Kinds())
	later := time.Now().Add(10 * time.Second)
	r.now = func() time.Time { return later }
	had := look(t, r).Checkpoints
	if len(had) != 1 || had[0].Created != 0 {
		t.Fatalf("%+v, want one checkpoint of no date", had)
	}
	first := had[0].Problem
	if err := os.Remove(filepath.Join(dir, "checkpoints/step-00000001/manifest.json")); err != nil { // within one: seen after a minute
		t.Fatal(err)
	}
	if is := look(t, r).Checkpoints[0].Problem; is != first {
		t.Errorf("it is read again with each look: %s", is)
	}
	write(t, dir, "checkpoints/step-00000002/manifest.json", "{")
	if err := os.Chtimes(filepath.Join(dir, "checkpoints"), later, later.Add(-5*time.Second)); err != nil {
		t.Fatal(err)
	}
	o := look(t, r)
	if len(o.Checkpoints) != 2 || o.Checkpoints[0].Problem == first {
		t.Errorf("%+v; the first was %s before", o.Checkpoints, first)
	}
}
