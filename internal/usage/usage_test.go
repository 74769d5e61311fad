package usage

import (
	"errors"
	"fmt"
	"io/fs"
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
