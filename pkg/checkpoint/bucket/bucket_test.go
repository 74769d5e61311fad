package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/checkpoint/storetest"
	"github.com/vlaring/vlaring/pkg/objects"
	"github.com/vlaring/vlaring/pkg/objects/s3test"
)

const child = "VLARING_TEST_PUT" // the checkpoint that a process of the test puts, and where to

func TestMain(m *testing.M) {
	if what := os.Getenv(child); what != "" {
		dir, address, _ := strings.Cut(what, " ")
		if err := put(dir, address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func put(dir, address string) error {
	r, err := checkpoint.Local(dir).Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	s, err := Open(context.Background(), address)
	if err != nil {
		return err
	}
	return s.Put(context.Background(), r, nil)
}

func open(t *testing.T, address string) *Store {
	t.Helper()
	s, err := Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeepers(t *testing.T) {
	t.Run("Disk", func(t *testing.T) {
		storetest.Keepers(t, func(t *testing.T) checkpoint.Keeper {
			d, err := checkpoint.OpenDisk(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return d
		})
	})
	t.Run("S3", func(t *testing.T) {
		s3test.Start(t, []string{"models"})
		n := 0
		storetest.Keepers(t, func(t *testing.T) checkpoint.Keeper {
			n++
			return open(t, fmt.Sprintf("s3://models/runs/%d", n))
		})
	})
}

// made is a checkpoint on the disk whose model takes several parts.
func made(t *testing.T, step uint64) string {
	t.Helper()
	d, err := checkpoint.OpenDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := d.Begin(step)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{checkpoint.ModelFile: 7 << 20, checkpoint.OptimizerFile: 1 << 18} {
		r := rand.New(rand.NewSource(int64(step)))
		x := make([]float32, n)
		for i := range x {
			x[i] = r.Float32()
		}
		v, err := safetensors.NewView([]safetensors.Tensor{{Name: "w", Shape: []int{n}, Data: x}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		f, err := w.Create(name, v.Size())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(f, io.NewSectionReader(v, 0, v.Size())); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(checkpoint.Manifest{Step: step, Job: "t"}); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(d.Dir(), checkpoint.DirName(step))
}

// strike is a proxy before the server that calls kill at a moment of what goes
// through it. A request that writes has three: before anything of it is passed on, in
// the middle of its body, and when its answer has come and is not passed on.
type strike struct {
	to   *url.URL
	mu   sync.Mutex
	at   int // the moment to kill at, from 0; -1: none
	seen int
	kill func()
	said []string // what each moment was
	sent int64    // bytes of bodies that were passed on
}

func (s *strike) moment(what string) (now bool) {
	s.mu.Lock()
	now = s.seen == s.at
	s.seen++
	s.said = append(s.said, what)
	s.mu.Unlock()
	if now {
		s.kill()
	}
	return now
}

type halved struct {
	io.ReadCloser
	s    *strike
	left int64
	name string
}

func (h *halved) Read(p []byte) (int, error) {
	if h.left > 0 && int64(len(p)) > h.left {
		p = p[:h.left]
	}
	n, err := h.ReadCloser.Read(p)
	h.s.mu.Lock()
	h.s.sent += int64(n)
	h.s.mu.Unlock()
	if h.left -= int64(n); h.left == 0 && h.s.moment("in the middle of "+h.name) {
		return 0, errors.New("killed")
	}
	return n, err
}

func (s *strike) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.Method + " " + filepath.Base(r.URL.Path)
	for _, k := range []string{"partNumber", "uploads", "uploadId"} {
		if r.URL.Query().Has(k) {
			name += " " + k + " " + r.URL.Query().Get(k)
			if k == "partNumber" {
				break
			}
		}
	}
	writes := r.Method != http.MethodGet && r.Method != http.MethodHead
	if writes && s.moment("before "+name) {
		panic(http.ErrAbortHandler)
	}
	if writes && r.ContentLength > 1 {
		r.Body = &halved{r.Body, s, r.ContentLength / 2, name}
	}
	p := &httputil.ReverseProxy{
		Rewrite: func(out *httputil.ProxyRequest) {
			out.Out.URL.Scheme, out.Out.URL.Host, out.Out.Host = "http", s.to.Host, out.In.Host
		},
		ModifyResponse: func(*http.Response) error {
			if writes && s.moment("after "+name) {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	p.ServeHTTP(w, r)
}

// putting runs a process that puts a checkpoint through the proxy, and says whether it
// was killed.
func (s *strike) putting(t *testing.T, dir, proxy, prefix string, at int) (killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), child+"="+dir+" s3://models/"+prefix+"?endpoint="+proxy)
	var out bytes.Buffer
	cmd.Stderr = &out
	s.mu.Lock()
	s.at, s.seen, s.said, s.sent = at, 0, nil, 0
	s.kill = func() { cmd.Process.Kill() }
	s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() < 0 {
		return true
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	return false
}

// A process is killed by SIGKILL in the middle of an upload, at four points and those
// about the manifest; with VLARING_LONG=1 at ten and those.
// Nothing half-written is ever taken for a checkpoint, by a list, a look or a
// verification; what is listed verifies to the last byte; and the next process goes
// on: of what was whole in the store it sends nothing again.
func TestKilledWhileUploading(t *testing.T) {
	server := s3test.Start(t, []string{"models"})
	to, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	s := &strike{to: to}
	front := httptest.NewServer(s)
	defer front.Close()
	dir := made(t, 200)
	if s.putting(t, dir, front.URL, "whole", -1) {
		t.Fatal("killed without a strike")
	}
	all, full := s.said, s.sent
	t.Logf("an upload of %d bytes has %d moments", full, len(all))
	if len(all) < 20 {
		t.Fatalf("moments: %q", all)
	}
	evenly := 4
	if os.Getenv("VLARING_LONG") != "" {
		evenly = 10
	}
	var points []int
	for i := range evenly { // over all moments
		points = append(points, i*len(all)/evenly)
	}
	for i, what := range all { // and those about the manifest
		if strings.Contains(what, "manifest") || strings.Contains(what, "latest") {
			points = append(points, i)
		}
	}
	less := 0
	for n, at := range points {
		prefix := fmt.Sprintf("killed-%d", n)
		if !s.putting(t, dir, front.URL, prefix, at) {
			t.Errorf("moment %d never came", at)
			continue
		}
		was := s.said[len(s.said)-1]
		time.Sleep(50 * time.Millisecond) // what is under way in the server ends
		look := open(t, "s3://models/"+prefix)
		l, err := look.List()
		if err != nil {
			t.Fatal(err)
		}
		done := len(l) > 0
		if manifest := strings.Contains(was, "after PUT manifest") || strings.Contains(was, "latest"); done != manifest && !strings.Contains(was, "middle of PUT manifest") {
			t.Errorf("killed %s: %d checkpoints are listed", was, len(l))
		}
		for _, e := range l {
			if rep := look.Place().In(checkpoint.DirName(e.Step)).Verify(); e.State != checkpoint.Complete || !rep.OK {
				t.Errorf("killed %s: what is listed is %v %s: %v", was, e.State, e.Problem, rep.Problems)
			}
		}
		if _, err := look.Open(200); !done && !errors.Is(err, checkpoint.ErrNone) {
			t.Errorf("killed %s: opening it: %v, want ErrNone", was, err)
		}
		if _, err := look.Place().LatestGood(); !done && !errors.Is(err, checkpoint.ErrNone) {
			t.Errorf("killed %s: the latest is %v", was, err)
		}
		if s.putting(t, dir, front.URL, prefix, -1) {
			t.Fatal("killed without a strike")
		}
		again := s.sent
		if again < full {
			less++
		}
		if rep := look.Place().In(checkpoint.DirName(200)).Verify(); !rep.OK {
			t.Errorf("killed %s, and gone on: %v", was, rep.Problems)
		}
		if l, err := look.List(); err != nil || len(l) != 1 || !l[0].Latest {
			t.Errorf("killed %s, and gone on: %+v, %v", was, l, err)
		}
		t.Logf("killed %-60s then %8d of %d bytes were sent", was, again, full)
	}
	if less < len(points)/2 {
		t.Errorf("only %d of %d uploads went on where they were", less, len(points))
	}
}

// What others have put beside checkpoints, keys that climb among it, is no checkpoint
// and no trouble; what an upload has left that nobody goes on with is swept away, and
// what is to go on stays.
func TestSweep(t *testing.T) {
	server := s3test.Start(t, []string{"models"})
	s := open(t, "s3://models/runs/a")
	r, _ := storetest.Made(t, 3, "three")
	if err := s.Put(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	b, err := objects.Open("s3://models/runs/a")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"step-00000004/model.safetensors", "step-00000005/model.safetensors", "step-6/manifest.json", "notes/readme", "step-00000007"} {
		if err := b.Put(t.Context(), key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.List()
	if err != nil || len(l) != 1 || l[0].Step != 3 || l[0].State != checkpoint.Complete {
		t.Errorf("listed %+v, %v", l, err)
	}
	lines, err := s.Sweep(func(step uint64) bool { return step == 5 })
	if err != nil || len(lines) != 1 || !strings.Contains(lines[0], "step-00000004") {
		t.Errorf("swept %q, %v", lines, err)
	}
	keys, err := b.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, o := range keys {
		left = append(left, o.Key)
	}
	if got := strings.Join(left, " "); got != "latest notes/readme step-00000003/manifest.json step-00000003/text step-00000005/model.safetensors step-00000007 step-6/manifest.json" {
		t.Errorf("left: %s", got)
	}
	server.Stop()
	if _, err := s.List(); !errors.Is(err, checkpoint.ErrAway) {
		t.Errorf("of a store that is away: %v, want ErrAway", err)
	}
	if _, err := s.Open(3); !errors.Is(err, checkpoint.ErrAway) || errors.Is(err, checkpoint.ErrCorrupt) {
		t.Errorf("of a store that is away: %v, want ErrAway and not ErrCorrupt", err)
	}
	server.Start(t)
}

// Bytes that changed in the store, and files that are of another size or gone, are found.
func TestChangedInTheStore(t *testing.T) {
	server := s3test.Start(t, []string{"models"})
	s := open(t, "s3://models/p")
	r, _ := storetest.Made(t, 3, "as it was")
	if err := s.Put(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(server.Dir, "models/p/step-00000003/text")
	for what, c := range map[string]struct {
		do   func() error
		list string
	}{
		"other bytes": {func() error { return os.WriteFile(file, []byte("As it was"), 0o644) }, ""},
		"other size":  {func() error { return os.WriteFile(file, []byte("as it"), 0o644) }, "has 5 bytes, the manifest says 9"},
		"gone":        {func() error { return os.Remove(file) }, "is missing"},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		l, err := s.List()
		if err != nil || len(l) != 1 || !strings.Contains(l[0].Problem, c.list) || (c.list == "") != (l[0].State == checkpoint.Complete) {
			t.Errorf("%s: listed %+v, %v", what, l, err)
		}
		if rep := s.Place().In("step-00000003").Verify(); rep.OK || len(rep.Problems) == 0 || !strings.Contains(rep.Problems[0], "text") {
			t.Errorf("%s: verified: %+v", what, rep)
		}
		if _, err := s.Place().LatestGood(); !errors.Is(err, checkpoint.ErrNone) {
			t.Errorf("%s: the latest: %v", what, err)
		}
		from, err := s.Open(3)
		if err == nil {
			d, derr := checkpoint.OpenDisk(t.TempDir())
			if derr != nil {
				t.Fatal(derr)
			}
			if err = d.Put(t.Context(), from, nil); err == nil {
				t.Errorf("%s: it is fetched without an error", what)
			}
			if l, err := d.List(); err != nil || len(l) != 0 {
				t.Errorf("%s: fetched: %+v, %v", what, l, err)
			}
		}
		if err := s.b.Put(t.Context(), "step-00000003/text", []byte("as it was")); err != nil { // as it was, for the next
			t.Fatal(err)
		}
	}
}
