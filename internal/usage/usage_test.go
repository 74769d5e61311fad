package usage

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// A mistake stays one, and keeps its words and its cause, however it is wrapped.
func TestError(t *testing.T) {
	var e Error
	for _, err := range []error{Errorf("%s: %w", "file", fs.ErrNotExist), Wrap(fs.ErrNotExist), fmt.Errorf("more: %w", Wrap(fs.ErrNotExist))} {
		if !errors.As(err, &e) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v is no mistake of usage, or has lost its cause", err)
		}
	}
	if err := Wrap(fs.ErrNotExist); err.Error() != fs.ErrNotExist.Error() {
		t.Errorf("got %q", err)
	}
	if Wrap(nil) != nil {
		t.Error("no error became one")
	}
}

func TestWithin(t *testing.T) {
	for _, v := range []int{1, 2, 3} {
		if err := Within("n", v, 1, 3); err != nil {
			t.Errorf("%d: %v", v, err)
		}
	}
	for v, want := range map[int]string{0: "--n 0: want 1 to 3", 4: "--n 4: want 1 to 3"} {
		if err := Within("n", v, 1, 3); err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestHostPort(t *testing.T) {
	for s, want := range map[string]string{"0.0.0.0:4222": "0.0.0.0 4222", "[::1]:1": "::1 1", "h:65535": "h 65535"} {
		h, p, err := HostPort("--listen", s)
		if got := fmt.Sprint(h, " ", p); err != nil || got != want {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	if h, p, err := HostPort("--listen", ":4222"); err != nil || h == "" || p != 4222 {
		t.Errorf("without a host: %q %d, %v", h, p, err)
	}
	if h, p, err := Listen("--listen", "127.0.0.1:0"); err != nil || h != "127.0.0.1" || p != 0 {
		t.Errorf("a free port: %q %d, %v", h, p, err)
	}
	if _, _, err := Listen("--listen", "h:-1"); err == nil {
		t.Error("port -1 was taken")
	}
	for _, s := range []string{"", "h", "h:", "h:0", "h:65536", "h:x", "::1:4222"} {
		_, _, err := HostPort("--listen", s)
		if want := fmt.Sprintf("--listen %q: want host:port, e.g. 0.0.0.0:4222", s); err == nil || err.Error() != want || !errors.As(err, new(Error)) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// A place that cannot be listened on is named with what to give instead, and is a mistake
// of usage.
func TestBind(t *testing.T) {
	l, err := Bind("--listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for s, want := range map[string]string{l.Addr().String(): "choose another port, or 0 for a free one", "192.0.2.1:4222": "none of this machine's addresses",
		"127.0.0.1:99999": "want host:port", "4222": "want host:port"} {
		l, err := Bind("--listen", s)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--listen") || !errors.As(err, new(Error)) {
			t.Errorf("%s: %v, want %q", s, err, want)
		}
	}
}
