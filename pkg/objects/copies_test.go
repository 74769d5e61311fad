package objects

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/objects/s3test"
)

// A copy has what the store has: what has not changed is not read again, what has is,
// what is gone goes; a store that is away will do where the copy is whole; bytes that
// changed in the store are found.
func TestCopies(t *testing.T) {
	s := s3test.Start(t, []string{"data"})
	b := open(t, "s3://data/sets/a")
	want := map[string][]byte{"meta/info.json": []byte("{}"), "data/chunk-000/x.bin": noise(11 << 20), "data/chunk-000/y.bin": noise(1 << 20), "empty": {}}
	for key, v := range want {
		if err := b.Upload(t.Context(), key, Content{ReaderAt: bytes.NewReader(v), Size: int64(len(v))}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Put(t.Context(), "../b/other", []byte("beside")); err != nil { // s3://data/sets/b/other
		t.Fatal(err)
	}
	c := Copies{t.TempDir()}
	fetch := func() Copy {
		t.Helper()
		got, err := c.Fetch(t.Context(), "s3://data/sets/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = filepath.WalkDir(got.Path, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			n++
			key, err := filepath.Rel(got.Path, p)
			if err != nil {
				return err
			}
			if is, err := os.ReadFile(p); err != nil || !bytes.Equal(is, want[filepath.ToSlash(key)]) {
				t.Errorf("%s: %v, or other bytes", key, err)
			}
			return nil
		})
		if err != nil || n != len(want) {
			t.Errorf("%d files, want %d: %v", n, len(want), err)
		}
		return got
	}
	if _, ok := c.Here("s3://data/sets/a"); ok {
		t.Error("a copy is there before it is made")
	}
	if got := fetch(); got.Fetched != 12<<20+2 || got.Unproved != 0 {
		t.Errorf("first: %+v", got)
	}
	if got := fetch(); got.Fetched != 0 {
		t.Errorf("nothing has changed: %+v", got)
	}
	want["meta/info.json"] = []byte("{1}")
	if err := b.Put(t.Context(), "meta/info.json", want["meta/info.json"]); err != nil {
		t.Fatal(err)
	}
	delete(want, "empty")
	if err := b.Remove(t.Context(), "empty"); err != nil {
		t.Fatal(err)
	}
	got := fetch()
	if got.Fetched != 3 {
		t.Errorf("one has changed: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(got.Path, "data/chunk-000/y.bin"), noise(1<<20-1), 0o644); err != nil { // somebody's mistake here
		t.Fatal(err)
	}
	if _, ok := c.Here("s3://data/sets/a"); ok {
		t.Error("a copy with a file of another size is whole")
	}
	if got := fetch(); got.Fetched != 1<<20 {
		t.Errorf("a file has another size here: %+v", got)
	}
	s.Stop()
	away, err := c.Fetch(t.Context(), "s3://data/sets/a", nil)
	if err != nil || away.Stale == "" || away.Path != got.Path {
		t.Errorf("the store is away: %+v, %v", away, err)
	}
	if _, err := c.Fetch(t.Context(), "s3://data/sets/b", nil); !errors.Is(err, ErrAway) {
		t.Errorf("of what was never here: %v", err)
	}
	s.Start(t)
	one, err := c.Fetch(t.Context(), "s3://data/sets/a/data/chunk-000/y.bin", nil)
	if err != nil {
		t.Fatal(err)
	}
	if is, err := os.ReadFile(one.Path); err != nil || !bytes.Equal(is, want["data/chunk-000/y.bin"]) || filepath.Base(one.Path) != "y.bin" {
		t.Errorf("a single object: %s, %v", one.Path, err)
	}
	if _, err := c.Fetch(t.Context(), "s3://data/sets/none", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	path := filepath.Join(s.Dir, "data/sets/b/other")
	if err := os.WriteFile(path, []byte("Beside"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fetch(t.Context(), "s3://data/sets/b", nil); err == nil || !strings.Contains(err.Error(), "its bytes changed in the store, or on their way") {
		t.Errorf("bytes that changed in the store: %v", err)
	}
}

// hostile answers as a store that lies.
type hostile struct {
	list   string // XML of its objects
	length string // of any object, in its header
	body   string
	status int
}

func (h hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Query().Has("list-type"):
		fmt.Fprintf(w, `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data</Name><IsTruncated>false</IsTruncated>%s</ListBucketResult>`, h.list)
	case r.URL.Query().Has("location"):
		fmt.Fprint(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`)
	default:
		w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("Content-Length", h.length)
		if h.status != 0 {
			w.WriteHeader(h.status)
		}
		if r.Method != http.MethodHead {
			fmt.Fprint(w, h.body)
		}
	}
}

// A store that lies makes nothing of it: no file outside the copy, no file of another
// length, no endless list, no memory; and what is wrong is said.
func TestHostileStore(t *testing.T) {
	object := func(key string, size int64) string {
		return fmt.Sprintf(`<Contents><Key>%s</Key><Size>%d</Size><ETag>"0123456789abcdef0123456789abcdef"</ETag><LastModified>2006-01-02T15:04:05.000Z</LastModified></Contents>`, key, size)
	}
	for name, c := range map[string]struct {
		h   hostile
		say string
	}{
		"a key that climbs":        {hostile{list: object("p/../../../etc/x", 1), length: "1", body: "x"}, "can be no file below a folder"},
		"a key with a backslash":   {hostile{list: object(`p/..\..\x`, 1), length: "1", body: "x"}, "can be no file below a folder"},
		"an absolute key":          {hostile{list: object("p//etc/x", 1), length: "1", body: "x"}, "can be no file below a folder"},
		"a key of another prefix":  {hostile{list: object("q/x", 1), length: "1", body: "x"}, "was asked for keys that begin with"},
		"an escape":                {hostile{list: object("p/a&#x1b;[2Jb", 1), length: "1", body: "x"}, ""},
		"a file that is a folder":  {hostile{list: object("p/a", 1) + object("p/a/b", 1), length: "1", body: "x"}, "cannot be a file and a folder"},
		"a key twice":              {hostile{list: object("p/a", 1) + object("p/a", 1), length: "1", body: "x"}, "twice"},
		"a negative size":          {hostile{list: object("p/a", -1), length: "1", body: "x"}, "bytes"},
		"more than any disk holds": {hostile{list: object("p/a", 1<<60), length: "1", body: "x"}, "make room"},
		"a shorter object":         {hostile{list: object("p/a", 10), length: "4", body: "four"}, "it said that it has 10 bytes, and sends 4"},
		"a longer object":          {hostile{list: object("p/a", 2), length: "4", body: "four"}, "it said that it has 2 bytes, and sends 4"},
		"other bytes":              {hostile{list: object("p/a", 4), length: "4", body: "four"}, "its bytes changed in the store"},
		"a billion laughs":         {hostile{list: `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><Contents><Key>&b;</Key></Contents>`}, ""},
		"no XML":                   {hostile{list: "<Contents"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			front := httptest.NewServer(c.h)
			defer front.Close()
			for k, v := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": front.URL, "AWS_REGION": "us-east-1", "AWS_PROFILE": "", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"} {
				t.Setenv(k, v)
			}
			dir := t.TempDir()
			copies := Copies{filepath.Join(dir, "copies")}
			_, err := copies.Fetch(t.Context(), "s3://data/p", nil)
			if err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %q", err, c.say)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("the message has control characters: %q", err)
			}
			if _, ok := copies.Here("s3://data/p"); ok {
				t.Error("the copy counts as whole")
			}
			filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && filepath.Ext(p) != ".json" {
					t.Errorf("there is a file %s", p)
				}
				return nil
			})
		})
	}
}

// A store that sends the whole where a part was asked for is not believed.
func TestRangesIgnored(t *testing.T) {
	front := httptest.NewServer(hostile{length: "8", body: "01234567", status: 200})
	defer front.Close()
	for k, v := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": front.URL, "AWS_REGION": "us-east-1", "AWS_PROFILE": "", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"} {
		t.Setenv(k, v)
	}
	f, err := open(t, "s3://data").File(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.ReadAt(make([]byte, 2), 4); err == nil || !strings.Contains(err.Error(), "it was asked for bytes 4 to 7") {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// What stores answer has the words of whoever has to mend it. These are the codes of
// Amazon's reference that the server of these tests cannot be brought to give.
func TestExplained(t *testing.T) {
	for code, c := range map[string]struct {
		status int
		class  error
		say    string
	}{
		"RequestTimeTooSkewed":         {403, ErrClock, "set this machine's"},
		"RequestExpired":               {403, ErrClock, "set this machine's"},
		"PermanentRedirect":            {301, ErrRegion, "AWS_REGION"},
		"AuthorizationHeaderMalformed": {400, ErrRegion, "in eu-central-1: set AWS_REGION"},
		"ExpiredToken":                 {400, ErrDenied, "AWS_SESSION_TOKEN"},
		"InvalidAccessKeyId":           {403, ErrDenied, "does not know the key"},
		"NoSuchBucket":                 {404, ErrNoBucket, "there is no bucket data"},
		"SlowDown":                     {503, nil, "SlowDown"},
		"QuotaExceeded":                {400, nil, "QuotaExceeded"},
	} {
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(c.status)
			fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>no</Message><Region>eu-central-1</Region></Error>`, code)
		}))
		for k, v := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": front.URL, "AWS_REGION": "us-east-1", "AWS_PROFILE": "", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"} {
			t.Setenv(k, v)
		}
		_, err := open(t, "s3://data/p").List(t.Context(), "")
		if err == nil || c.class != nil && !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", code, err)
		}
		if Transient(err) != (c.status == 503) {
			t.Errorf("%s: worth another try: %v", code, Transient(err))
		}
		front.Close()
	}
}
