package board

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/run"
)

// Sinks are TensorBoard, where it is wanted, and the trackers of what each --track gives.
func Sinks(tensorBoard bool, track []string) (l []run.Sink, err error) {
	if tensorBoard {
		l = append(l, newTensorBoard())
	}
	for _, word := range track {
		s, err := newTracker(word)
		if err != nil {
			return nil, err
		}
		l = append(l, s)
	}
	return l, nil
}

// newTracker makes a sink of what --track gives: trackio:URL or mlflow:URL. An error is a
// usage.Error.
func newTracker(word string) (run.Sink, error) {
	kind, at, _ := strings.Cut(word, ":")
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || (kind != "trackio" && kind != "mlflow") {
		return nil, usage.Errorf("--track %q: want the kind of tracker and its server's address, such as trackio:http://127.0.0.1:7860 or mlflow:http://127.0.0.1:5000", word)
	}
	c := client{name: "--track " + kind + ":" + u.Redacted(), base: strings.TrimRight(at, "/"), http: &http.Client{Timeout: 10 * time.Second}, header: http.Header{}}
	if kind == "trackio" {
		if token := os.Getenv("TRACKIO_WRITE_TOKEN"); token != "" {
			c.header.Set("X-Trackio-Write-Token", token)
		}
		return &trackio{client: c}, nil
	}
	switch user, token := os.Getenv("MLFLOW_TRACKING_USERNAME"), os.Getenv("MLFLOW_TRACKING_TOKEN"); {
	case token != "":
		c.header.Set("Authorization", "Bearer "+token)
	case user != "":
		r := &http.Request{Header: c.header}
		r.SetBasicAuth(user, os.Getenv("MLFLOW_TRACKING_PASSWORD"))
	}
	return &mlflow{client: c}, nil
}

// client speaks JSON with a tracker's server.
type client struct {
	name   string
	base   string
	http   *http.Client
	header http.Header // who we are
}

func (c *client) String() string { return c.name }

// maxAnswer bounds what is read of a server.
const maxAnswer = 16 << 20

// statusError is what a server says instead of an answer.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("the server says %d: %s", e.code, e.text) }

// call asks the server for path; what it answers goes to out, where that is not nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	r.Header = c.header.Clone()
	r.Header.Set("Content-Type", "application/json")
	a, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, maxAnswer))
	if err != nil {
		return err
	}
	if a.StatusCode/100 != 2 {
		return &statusError{a.StatusCode, string(b[:min(len(b), 300)])}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s%s answers no JSON that is known: %w", c.base, path, err)
	}
	return nil
}

// identityFile keeps by what name trackers know the run of a directory.
const identityFile = "track.json"

// identity names a run for trackers. It is drawn once for a run directory and what is
// computed in it: a run that begins anew with another job is another one there, and so is
// one whose train.steps bends the rest of its schedule.
type identity struct {
	ID     string `json:"id"`
	Result string `json:"result"` // hash of what of the job decides the bits
}

func identify(a run.About) (identity, error) {
	sum := sha256.Sum256(a.Job.Result().YAML())
	is := identity{Result: hex.EncodeToString(sum[:8])}
	path := filepath.Join(a.Dir, identityFile)
	b, err := regular.Read(path, 1<<16)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return is, err
	}
	var was identity
	if err == nil && json.Unmarshal(b, &was) == nil && was.ID != "" && was.Result == is.Result {
		return was, nil
	}
	var id [6]byte
	rand.Read(id[:])
	is.ID = hex.EncodeToString(id[:])
	if b, err = json.Marshal(is); err != nil {
		return is, err
	}
	return is, atomicfile.Write(path, append(b, '\n'), 0o644)
}

// runName is what people see.
func runName(a run.About, is identity) string { return a.Job.Name + "-" + is.ID[:6] }

// finiteOnly leaves out what JSON has no word for.
func finiteOnly(l []number) (out []number) {
	for _, n := range l {
		if !math.IsNaN(n.value) && !math.IsInf(n.value, 0) {
			out = append(out, n)
		}
	}
	return out
}
