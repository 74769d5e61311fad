package objects

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/room"
	"github.com/vlaring/vlaring/internal/s3url"
)

// Copies is a directory that keeps copies of what lies below addresses, as folders of
// files. Several processes may use it at once.
//
//	HASH.json     what of which address is there: sizes, tags, SHA-256
//	HASH/…        the files
type Copies struct{ Dir string }

// spared is what programs may write into a copy, and is not of the store.
const spared = ".vlaring"

// copied is a file of a copy.
type copied struct {
	Size   int64     `json:"size"`
	ETag   string    `json:"etag"`
	SHA256 string    `json:"sha256"`
	Proved string    `json:"proved"` // by what: md5, parts; empty: length and transport alone
	Time   time.Time `json:"time"`   // of the file, when it was written
}

// index is what a HASH.json holds.
type index struct {
	Address string             `json:"address"`
	Whole   bool               `json:"whole"`  // all that was listed is there
	Single  bool               `json:"single"` // the address is one object's
	Asked   time.Time          `json:"asked"`
	Files   map[string]*copied `json:"files"`
}

// Copy is a copy of what lies below an address.
type Copy struct {
	Path     string // the folder, or the file of a single object
	Bytes    int64
	Fetched  int64  // bytes that came now
	Unproved int    // files of which the store gives no hash that can be made here
	Stale    string // why the store could not be asked, and the copy is as it was; empty: it was
}

// copyOf is one address's copy.
type copyOf struct {
	b    *Bucket
	base string // path without an extension
	mu   sync.Mutex
	index
}

func (c Copies) of(address string) (*copyOf, error) {
	b, err := Open(address)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256([]byte(b.where + " " + b.at.Place()))
	o := &copyOf{b: b, base: filepath.Join(c.Dir, hex.EncodeToString(id[:10]))}
	text, err := regular.Read(o.base+".json", 1<<30)
	if err == nil && json.Unmarshal(text, &o.index) != nil || o.index.Files == nil {
		o.index = index{Files: map[string]*copied{}} // as if there were none
	}
	o.Address = b.at.Place()
	return o, nil
}

// path is what a whole copy is to be used as.
func (o *copyOf) path() string {
	if o.Single {
		return filepath.Join(o.base, path.Base(o.Address))
	}
	return o.base
}

// Here is the path of a copy that is whole, without asking anybody; false where there
// is none.
func (c Copies) Here(address string) (string, bool) {
	o, err := c.of(address)
	if err != nil || !o.Whole {
		return "", false
	}
	for key, f := range o.Files {
		if !o.has(key, f) {
			return "", false
		}
	}
	return o.path(), true
}

func (o *copyOf) file(key string) string { return filepath.Join(o.base, filepath.FromSlash(key)) }

// has says whether a file is as it was written.
func (o *copyOf) has(key string, f *copied) bool {
	i, err := os.Lstat(o.file(key))
	return err == nil && i.Mode().IsRegular() && i.Size() == f.Size && i.ModTime().Equal(f.Time)
}

// Fetch makes the copy of what lies below an address what the store has: objects that
// have not changed are not read again. What is read is compared with the hash that the
// store gives, where it gives one. Without an answer of the store a copy that is whole
// will do. progress, which may be nil, is told of bytes.
func (c Copies) Fetch(ctx context.Context, address string, progress func(done, total int64)) (Copy, error) {
	o, err := c.of(address)
	if err != nil {
		return Copy{}, err
	}
	list, err := o.list(ctx)
	if Transient(err) && ctx.Err() == nil {
		if p, ok := c.Here(address); ok {
			return Copy{Path: p, Stale: fmt.Sprintf("%v; the copy of %s is used", err, o.Asked.Local().Format("2006-01-02 15:04:05"))}, nil
		}
	}
	if err != nil {
		return Copy{}, err
	}
	if err := os.MkdirAll(o.base, 0o755); err != nil {
		return Copy{}, err
	}
	todo, total := o.plan(list)
	need := int64(0)
	for _, x := range todo {
		need += x.Size
	}
	if free, err := room.Free(o.base); err == nil && free.Known && need > free.Bytes-free.Bytes/10 {
		return Copy{}, fmt.Errorf("%s has %s that are not here yet, and %s has %s free: make room there, or have XDG_CACHE_HOME name a larger disk", o.Address, plain.Bytes(need), c.Dir, plain.Bytes(free.Bytes))
	}
	o.Whole, o.Asked = false, time.Now().UTC().Truncate(time.Second)
	if err := o.keep(); err != nil {
		return Copy{}, err
	}
	if err := o.get(ctx, todo, total-need, total, progress); err != nil {
		return Copy{}, errors.Join(err, o.keep())
	}
	o.Whole = true
	r := Copy{Path: o.path(), Bytes: total, Fetched: need}
	for _, f := range o.Files {
		if f.Proved == "" {
			r.Unproved++
		}
	}
	return r, o.keep()
}

// list lists what is to be copied: an object of that name alone, or all below it.
func (o *copyOf) list(ctx context.Context) ([]Object, error) {
	o.Single = false
	list, err := o.b.List(ctx, "")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 && o.b.at.Prefix != "" {
		up := *o.b
		up.at.Prefix = path.Dir(o.b.at.Prefix)
		if up.at.Prefix == "." {
			up.at.Prefix = ""
		}
		one, err := up.Stat(ctx, path.Base(o.b.at.Prefix))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{Doing: "listing", What: o.Address, Class: fs.ErrNotExist, Text: "there is no object of that name, and none below it: check the address"}
		}
		if err != nil {
			return nil, err
		}
		o.b, o.Single = &up, true
		return []Object{one}, nil
	}
	folders := map[string]string{}
	for _, x := range list {
		if !s3url.Plain(x.Key) {
			return nil, o.b.wrong("listing", "", fmt.Sprintf("%.80q can be no file below a folder", x.Key))
		}
		for dir := path.Dir(x.Key); dir != "."; dir = path.Dir(dir) {
			folders[dir] = x.Key
		}
	}
	for _, x := range list {
		if below := folders[x.Key]; below != "" {
			return nil, fmt.Errorf("%s has both %q and %q, which cannot be a file and a folder here", o.Address, x.Key, below)
		}
	}
	return list, nil
}

// plan is what has to be read, and how many bytes there are in all. What the store has
// not got any more goes.
func (o *copyOf) plan(list []Object) (todo []Object, total int64) {
	now := map[string]bool{}
	for _, x := range list {
		now[x.Key] = true
		total += x.Size
		if f := o.Files[x.Key]; f == nil || f.ETag != x.ETag || f.Size != x.Size || !o.has(x.Key, f) {
			todo = append(todo, x)
			delete(o.Files, x.Key)
		}
	}
	for key := range o.Files {
		if !now[key] {
			delete(o.Files, key)
		}
	}
	filepath.WalkDir(o.base, func(p string, d fs.DirEntry, err error) error { // what cannot be removed stays
		if err != nil {
			return nil
		}
		rel, err := filepath.Rel(o.base, p)
		if err == nil && d.IsDir() && d.Name() == spared {
			return filepath.SkipDir
		}
		if key := filepath.ToSlash(rel); err == nil && !d.IsDir() && !now[key] {
			os.Remove(p)
		}
		return nil
	})
	return todo, total
}

// keep writes what is known of the files.
func (o *copyOf) keep() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(o.index); err != nil {
		return err
	}
	return atomicfile.Write(o.base+".json", b.Bytes(), 0o644)
}

// get reads objects, a few at a time.
func (o *copyOf) get(ctx context.Context, todo []Object, done, total int64, progress func(done, total int64)) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	kept := time.Now()
	var mu sync.Mutex
	for _, x := range todo {
		group.Go(func() error {
			f, err := o.read(inner, x, func(n int) {
				mu.Lock()
				defer mu.Unlock()
				if done += int64(n); progress != nil {
					progress(done, total)
				}
			})
			if err != nil {
				return err
			}
			o.mu.Lock()
			o.Files[x.Key] = f
			late := time.Since(kept) > 10*time.Second
			if late {
				kept = time.Now()
			}
			o.mu.Unlock()
			if late { // so that a kill does not cost all
				return o.keep()
			}
			return nil
		})
	}
	return group.Wait()
}

// read makes a file of an object, whole or not at all, and says what proves it.
func (o *copyOf) read(ctx context.Context, x Object, moved func(int)) (*copied, error) {
	to := o.file(x.Key)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return nil, err
	}
	from := o.b.FileOf(ctx, x)
	defer from.Close()
	m, h := md5.New(), sha256.New()
	tmp, err := os.CreateTemp(filepath.Dir(to), spared+"-part-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name()) // no more once it has its name
	_, err = io.CopyBuffer(io.MultiWriter(tmp, m, h), &counted{io.NewSectionReader(from, 0, x.Size), ctx, moved}, make([]byte, 256<<10))
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	f := &copied{Size: x.Size, ETag: x.ETag, SHA256: hex.EncodeToString(h.Sum(nil))}
	if f.Proved, err = o.proof(ctx, x, tmp.Name(), hex.EncodeToString(m.Sum(nil))); err != nil {
		return nil, err
	}
	if err := os.Chmod(tmp.Name(), 0o644); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp.Name(), to); err != nil {
		return nil, err
	}
	i, err := os.Lstat(to)
	if err != nil {
		return nil, err
	}
	f.Time = i.ModTime()
	return f, nil
}

type counted struct {
	io.Reader
	ctx   context.Context
	moved func(int)
}

func (c *counted) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.Reader.Read(p)
	c.moved(n)
	return n, err
}

var isMD5 = regexp.MustCompile(`^[0-9a-f]{32}$`)

// proof compares what came with the store's tag, where that is a hash that can be made
// here: an MD5 of the whole, or of the MD5s of equal parts.
func (o *copyOf) proof(ctx context.Context, x Object, file, sum string) (string, error) {
	if x.ETag == sum {
		return "md5", nil
	}
	if isMD5.MatchString(x.ETag) {
		i, err := o.b.core.StatObject(ctx, o.b.at.Bucket, o.b.at.Key(x.Key), minio.StatObjectOptions{})
		if err != nil {
			return "", o.b.explain(ctx, "looking at", x.Key, err)
		}
		if how := i.Headers.Get("x-amz-server-side-encryption"); strings.HasPrefix(how, "aws:kms") || i.Headers.Get("x-amz-server-side-encryption-customer-algorithm") != "" {
			return "", nil // the tag is a hash of something else then
		}
		return "", o.b.wrong("reading", x.Key, fmt.Sprintf("its MD5 is said to be %s, and what comes has %s: its bytes changed in the store, or on their way", x.ETag, sum))
	}
	_, count, parts := strings.Cut(x.ETag, "-")
	n, err := strconv.Atoi(count)
	if !parts || err != nil || n < 1 || n > mostParts {
		return "", nil // another kind of tag, as with encryption by a key service
	}
	first, err := o.b.core.StatObject(ctx, o.b.at.Bucket, o.b.at.Key(x.Key), minio.StatObjectOptions{PartNumber: 1})
	if err != nil || first.Size < 1 || first.Size > x.Size || (x.Size+first.Size-1)/first.Size != int64(n) {
		return "", nil // it does not say how large the parts were
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	all := make([]sums, 0, n)
	for off := int64(0); off < x.Size; off += first.Size {
		m := md5.New()
		if err := hashInto(ctx, io.NewSectionReader(f, off, first.Size), min(first.Size, x.Size-off), m); err != nil {
			return "", err
		}
		var s sums
		m.Sum(s.md5[:0])
		all = append(all, s)
	}
	if tagOf(all) == x.ETag {
		return "parts", nil
	}
	return "", nil // parts of different sizes, or another kind of tag
}

// UserCopies are those of the user.
func UserCopies() (Copies, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return Copies{}, fmt.Errorf("there is no place for a copy: %w; set XDG_CACHE_HOME to a directory with room", err)
	}
	return Copies{filepath.Join(dir, "vlaring", "objects")}, nil
}
