package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/vlaring/vlaring/pkg/objects/s3test"
)

// TestMain has the client wait less before it tries again.
func TestMain(m *testing.M) {
	minio.DefaultRetryUnit, minio.DefaultRetryCap = 20*time.Millisecond, 100*time.Millisecond
	os.Exit(m.Run())
}

// noise is n bytes that are the same at each call.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(b)
	return b
}

func open(t *testing.T, address string) *Bucket {
	t.Helper()
	b, err := Open(address)
	if err != nil {
		t.Fatal(err)
	}
	b.part = 5 << 20 // the least that a store takes: many parts of little data
	return b
}

func whole(t *testing.T, b *Bucket, key string) []byte {
	t.Helper()
	f, err := b.File(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What is stored is read again, from its front, its back and its middle, whatever its
// size; a server whose tags are no MD5 is asked for the bytes themselves.
func TestStoreAndRead(t *testing.T) {
	for name, flags := range map[string][]string{"tags are MD5": nil, "tags are something else": {"--data-integrity-etag"}} {
		t.Run(name, func(t *testing.T) {
			s := s3test.Start(t, []string{"models"}, flags...)
			b := open(t, "s3://models/runs/a")
			for _, size := range []int{0, 1, 5 << 20, 5<<20 + 1, 17 << 20} {
				key := fmt.Sprintf("x/%d.bin", size)
				want := noise(size)
				var last int64
				if err := b.Upload(t.Context(), key, Content{ReaderAt: bytes.NewReader(want), Size: int64(size)}, func(n int64) { last = n }); err != nil {
					t.Fatal(err)
				}
				if last != int64(size) {
					t.Errorf("%s: %d bytes are said to be stored", key, last)
				}
				if got := whole(t, b, key); !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes come back, or others", key, len(got))
				}
				f, err := b.File(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				for _, at := range []int64{int64(size) - 3, int64(size) / 2, 0, int64(size)} {
					p := make([]byte, 5)
					n, err := f.ReadAt(p, max(at, 0))
					if rest := want[min(max(at, 0), int64(size)):]; !bytes.Equal(p[:n], rest[:min(5, len(rest))]) || (n < 5) != errors.Is(err, io.EOF) {
						t.Errorf("%s: %d bytes at %d: %v", key, n, at, err)
					}
				}
				f.Close()
			}
			l, err := b.List(t.Context(), "x/")
			if err != nil || len(l) != 5 || l[0].Key != "x/0.bin" || l[4].Size != 5<<20+1 {
				t.Errorf("listed %+v, %v", l, err)
			}
			if err := b.Remove(t.Context(), "x/0.bin"); err != nil {
				t.Error(err)
			}
			if err := b.Remove(t.Context(), "x/0.bin"); err != nil {
				t.Errorf("removing what is gone: %v", err)
			}
			if _, err := b.Stat(t.Context(), "x/0.bin"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what is gone: %v", err)
			}
			if _, err := os.Stat(filepath.Join(s.Dir, "models/runs/a/x/1.bin")); err != nil {
				t.Errorf("the server has it elsewhere: %v", err)
			}
		})
	}
}

// A File is of one version: one that is replaced while it is read is an error, never
// a mixture.
func TestReplacedWhileRead(t *testing.T) {
	s3test.Start(t, []string{"models"})
	b := open(t, "s3://models")
	if err := b.Put(t.Context(), "k", noise(3<<20)); err != nil {
		t.Fatal(err)
	}
	f, err := b.File(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 100), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "k", bytes.Repeat([]byte{7}, 3<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 100), 0); !errors.Is(err, ErrChanged) {
		t.Errorf("a read of the new version: %v, want ErrChanged", err)
	}
}

// A server that goes away in the middle of a read and comes back costs nothing.
func TestServerComesBack(t *testing.T) {
	s := s3test.Start(t, []string{"models"})
	b := open(t, "s3://models")
	want := noise(12 << 20)
	if err := b.Upload(t.Context(), "k", Content{ReaderAt: bytes.NewReader(want), Size: int64(len(want))}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := b.File(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	r := io.NewSectionReader(f, 0, int64(len(want)))
	for n := 0; ; n++ {
		p := make([]byte, 1<<20)
		k, err := r.Read(p)
		h.Write(p[:k])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 3 {
			s.Stop()
			s.Start(t)
		}
	}
	if got := sha256.Sum256(want); !bytes.Equal(h.Sum(nil), got[:]) {
		t.Error("other bytes came")
	}
}

// Each of the usual mistakes has its own words.
func TestMistakes(t *testing.T) {
	s := s3test.Start(t, []string{"models"})
	ctx := t.Context()
	check := func(what, address string, class error, say ...string) {
		t.Helper()
		b := open(t, address)
		_, err := b.List(ctx, "")
		_, serr := b.Stat(ctx, "k")
		perr := b.Put(ctx, "k", []byte("x"))
		for _, e := range []error{err, perr} {
			if !errors.Is(e, class) {
				t.Errorf("%s: %v, want %v", what, e, class)
				continue
			}
			for _, text := range say {
				if !strings.Contains(e.Error(), text) {
					t.Errorf("%s: %q lacks %q", what, e, text)
				}
			}
			if strings.Contains(e.Error(), s.Secret) || strings.Contains(e.Error(), "\n") {
				t.Errorf("%s: the message shows the secret, or has lines: %q", what, e)
			}
		}
		if serr == nil {
			t.Errorf("%s: a look at an object succeeds", what)
		}
	}
	check("no bucket", "s3://other/p", ErrNoBucket, "there is no bucket other at "+s.Endpoint, "AWS_ENDPOINT_URL")
	t.Run("secret", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		check("wrong secret", "s3://models/p", ErrDenied, "the secret does not fit the key", "AKIA…TEST")
	})
	t.Run("key", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIANOBODYATALL")
		check("unknown key", "s3://models/p", ErrDenied, "does not know the key")
	})
	t.Run("nobody", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		check("no credentials", "s3://models/p", ErrDenied, "no credentials were found")
	})
	t.Run("half", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		if _, err := Open("s3://models"); err == nil || !strings.Contains(err.Error(), "set both") {
			t.Errorf("half a key: %v", err)
		}
	})
	t.Run("profile", func(t *testing.T) {
		t.Setenv("AWS_PROFILE", "nobody")
		if _, err := Open("s3://models"); err == nil || !strings.Contains(err.Error(), "AWS_PROFILE is nobody, which neither") {
			t.Errorf("an unknown profile: %v", err)
		}
	})
	check("wrong region", "s3://models/p?region=eu-west-7", ErrRegion, "AWS_REGION", "eu-west-7")
	check("nobody there", "s3://models/p?endpoint=http://127.0.0.1:1", ErrAway, "http://127.0.0.1:1 cannot be reached")
	check("no TLS", "s3://models/p?endpoint=https://"+strings.TrimPrefix(s.Endpoint, "http://"), ErrAway, "http://")
	check("no such host", "s3://models/p?endpoint=http://store.invalid", ErrAway, "store.invalid")
}

// Endpoint, region and key come from the files that other programs use as well.
func TestFiles(t *testing.T) {
	s := s3test.Start(t, []string{"models"})
	dir := t.TempDir()
	config, keys := filepath.Join(dir, "config"), filepath.Join(dir, "credentials")
	for path, text := range map[string]string{
		config: "[default]\nregion = nowhere\n[profile robots]\nregion = us-east-1\nendpoint_url = " + s.Endpoint + "\n",
		keys:   "[robots]\naws_access_key_id = " + s.Access + "\naws_secret_access_key = " + s.Secret + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for k, v := range map[string]string{"AWS_CONFIG_FILE": config, "AWS_SHARED_CREDENTIALS_FILE": keys, "AWS_PROFILE": "robots", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "",
		"AWS_ENDPOINT_URL": "", "AWS_REGION": ""} {
		t.Setenv(k, v)
	}
	b := open(t, "s3://models/p")
	if err := b.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if got := whole(t, b, "k"); string(got) != "v" {
		t.Errorf("got %q", got)
	}
}

// What was asked for and is not wanted any more ends at once.
func TestCancelled(t *testing.T) {
	s3test.Start(t, []string{"models"})
	b := open(t, "s3://models")
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	err := b.Upload(ctx, "k", Content{ReaderAt: bytes.NewReader(noise(40 << 20)), Size: 40 << 20}, func(int64) { cancel(enough) })
	if !errors.Is(err, enough) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if l, err := b.List(t.Context(), ""); err != nil || len(l) != 0 {
		t.Errorf("listed %v, %v", l, err)
	}
}
