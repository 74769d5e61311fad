//go:build unix

package regular

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What is no regular file is refused by its kind, at once, by every way in.
func TestOthersAreRefused(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", at("sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink(at("pipe"), at("link")); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{dir: "a folder", at("pipe"): "a named pipe", at("link"): "a named pipe", at("sock"): "a socket", "/dev/zero": "a device"} {
		for way, open := range map[string]func() error{
			"Open":   func() error { _, _, err := Open(path); return err },
			"Read":   func() error { _, err := Read(path, 100); return err },
			"append": func() error { _, err := OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); return err },
		} {
			done := make(chan error, 1)
			go func() { done <- open() }()
			select {
			case err := <-done:
				var ke *KindError
				if !errors.As(err, &ke) || !strings.Contains(err.Error(), path+" is not a regular file: it is "+kind) {
					t.Errorf("%s of %s: %v", way, path, err)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s of %s hangs", way, path)
			}
		}
	}
	if _, _, err := Open(at("none")); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "open ") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(path, 5); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Read(path, 4); err == nil || !strings.Contains(err.Error(), "at most 4") {
		t.Errorf("a file that is too long: %v", err)
	}
	f, err := OpenFile(path+"2", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
