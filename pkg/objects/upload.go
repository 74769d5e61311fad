package objects

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"
)

// Bounds of multipart uploads: those of S3, which stores agree on.
const (
	leastPart = 8 << 20 // what one request sends, and is sent again after a kill; S3 takes no part below 5 MiB but the last
	mostParts = 10000
	mostPart  = 5 << 30
)

// atOnce is how many parts are on their way at a time: each is read from the source
// as it is sent, so that they take no memory.
const atOnce = 3

// partSize is what an object of so many bytes is cut into: the same at each try.
func (b *Bucket) partSize(size int64) int64 {
	p := b.part
	for p*mostParts < size {
		p *= 2
	}
	return p
}

// sums are the hashes of some bytes.
type sums struct {
	md5    [md5.Size]byte
	sha256 [sha256.Size]byte
}

func (s sums) tag() string { return hex.EncodeToString(s.md5[:]) }

func hashInto(ctx context.Context, r io.Reader, size int64, to ...hash.Hash) error {
	buf := make([]byte, min(256<<10, max(size, 1)))
	for left := size; left > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(r, buf[:min(left, int64(len(buf)))])
		for _, h := range to {
			h.Write(buf[:n])
		}
		if left -= int64(n); err != nil && left > 0 {
			return fmt.Errorf("%d bytes of %d: %w", size-left, size, err)
		}
	}
	return nil
}

// Content is what is to be stored.
type Content struct {
	io.ReaderAt        // must not change meanwhile
	Size        int64  // bytes of it
	SHA256      string // that they must have, in hexadecimal; empty: whatever they have
}

// ErrOther is content that has not got the hash that it should have. Nothing of it is sent.
var ErrOther = errors.New("has other bytes than it should have")

// Upload stores an object, which appears whole or not at all, and goes on where an
// earlier upload of the same bytes was cut off. moved is told how many bytes are in
// the store, as often as some are; it may be nil.
func (b *Bucket) Upload(ctx context.Context, key string, from Content, moved func(bytes int64)) error {
	if moved == nil {
		moved = func(int64) {}
	}
	size := from.Size
	u := &upload{b: b, key: key, r: from, size: size, want: from.SHA256, part: b.partSize(size), moved: moved}
	if size > mostParts*mostPart {
		return fmt.Errorf("storing %s: %d bytes are more than an object can have", b.at.In(key).Place(), size)
	}
	all, err := u.hash(ctx)
	if err != nil {
		return err
	}
	if len(all) <= 1 {
		return u.single(ctx, all[0])
	}
	return u.multipart(ctx, all)
}

// hash hashes each part, and the whole.
func (u *upload) hash(ctx context.Context) ([]sums, error) {
	all := make([]sums, max(u.parts(), 1))
	whole := sha256.New()
	for i := range all {
		off, size := u.span(i + 1)
		m, h := md5.New(), sha256.New()
		if err := hashInto(ctx, io.NewSectionReader(u.r, off, size), size, m, h, whole); err != nil {
			return nil, fmt.Errorf("storing %s: %w", u.b.at.In(u.key).Place(), err)
		}
		m.Sum(all[i].md5[:0])
		h.Sum(all[i].sha256[:0])
		u.count(0) // it is alive
	}
	got := hex.EncodeToString(whole.Sum(nil))
	if u.want == "" {
		u.want = got
	}
	if got != u.want {
		return nil, fmt.Errorf("storing %s: it %w: its SHA-256 is %.12s…, and should be %.12s…", u.b.at.In(u.key).Place(), ErrOther, got, u.want)
	}
	return all, nil
}

// Put stores a small object.
func (b *Bucket) Put(ctx context.Context, key string, content []byte) error {
	return b.Upload(ctx, key, Content{ReaderAt: bytes.NewReader(content), Size: int64(len(content))}, nil)
}

// upload is one call of Upload.
type upload struct {
	b     *Bucket
	key   string
	r     io.ReaderAt
	size  int64
	want  string // SHA-256 of the whole
	part  int64
	moved func(int64)

	stored atomic.Int64
	opaque atomic.Bool // the store's tags are no MD5
}

func (u *upload) parts() int { return int((u.size + u.part - 1) / u.part) }

// span is part n, from 1.
func (u *upload) span(n int) (off, size int64) {
	off = int64(n-1) * u.part
	return off, min(u.part, u.size-off)
}

func (u *upload) count(n int64) { u.moved(u.stored.Add(n)) }

// name is the object's key in the bucket.
func (u *upload) name() string { return u.b.at.Key(u.key) }

func (u *upload) explain(ctx context.Context, err error) error {
	return u.b.explain(ctx, "storing", u.key, err)
}

// single stores a small object in one request.
func (u *upload) single(ctx context.Context, s sums) error {
	if has, err := u.has(ctx, s.tag()); has || err != nil {
		return err
	}
	return u.sent(ctx, func(ctx context.Context, body io.Reader) error {
		i, err := u.b.core.PutObject(ctx, u.b.at.Bucket, u.name(), body, u.size, base64.StdEncoding.EncodeToString(s.md5[:]), hex.EncodeToString(s.sha256[:]),
			minio.PutObjectOptions{ContentType: "application/octet-stream", DisableContentSha256: true})
		if err != nil {
			return err
		}
		u.count(u.size)
		if tag(i.ETag) != s.tag() {
			return u.readBack(ctx)
		}
		return nil
	}, 0, u.size)
}

// sent sends some bytes by a request, which is given up where none are taken.
func (u *upload) sent(ctx context.Context, request func(ctx context.Context, body io.Reader) error, off, size int64) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body := &outgoing{SectionReader: io.NewSectionReader(u.r, off, size)}
	// the answer has the time of a stall too, from the last byte on
	defer watch(&body.moved, 2*u.b.stall, cancel)()
	err := request(inner, body)
	if err != nil && errors.Is(context.Cause(inner), errStalled) {
		return u.b.broken(ctx, u.key, "storing", errStalled)
	}
	return u.explain(ctx, err)
}

// outgoing counts what is read of it. It can be rewound, for another try.
type outgoing struct {
	*io.SectionReader
	moved atomic.Int64
}

func (o *outgoing) Read(p []byte) (int, error) {
	n, err := o.SectionReader.Read(p)
	o.moved.Add(1)
	return n, err
}

// has says whether the object is there with these bytes, by its size and tag.
func (u *upload) has(ctx context.Context, tag string) (bool, error) {
	o, err := u.b.Stat(ctx, u.key)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNoBucket) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if o.Size != u.size || o.ETag != tag {
		return false, nil
	}
	u.count(u.size)
	return true, nil
}

// multipart stores an object in parts.
func (u *upload) multipart(ctx context.Context, all []sums) error {
	want := tagOf(all)
	if has, err := u.has(ctx, want); has || err != nil {
		return err
	}
	id, known, err := u.find(ctx)
	if err != nil {
		return err
	}
	if id == "" {
		if id, err = u.b.core.NewMultipartUpload(ctx, u.b.at.Bucket, u.name(), minio.PutObjectOptions{ContentType: "application/octet-stream"}); err != nil {
			return u.explain(ctx, err)
		}
	}
	complete := make([]minio.CompletePart, len(all))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, s := range all {
		n := i + 1
		off, size := u.span(n)
		if p, ok := known[n]; ok && p.Size == size && tag(p.ETag) == s.tag() {
			complete[i] = minio.CompletePart{PartNumber: n, ETag: p.ETag}
			u.count(size)
			continue
		}
		group.Go(func() error {
			return u.sent(inner, func(ctx context.Context, body io.Reader) error {
				p, err := u.b.core.PutObjectPart(ctx, u.b.at.Bucket, u.name(), id, n, body, size, minio.PutObjectPartOptions{
					Md5Base64: base64.StdEncoding.EncodeToString(s.md5[:]), Sha256Hex: hex.EncodeToString(s.sha256[:]), DisableContentSha256: true})
				if err != nil {
					return err
				}
				if tag(p.ETag) != s.tag() {
					u.opaque.Store(true)
				}
				complete[i] = minio.CompletePart{PartNumber: n, ETag: p.ETag}
				u.count(size)
				return nil
			}, off, size)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if _, err := u.b.core.CompleteMultipartUpload(ctx, u.b.at.Bucket, u.name(), id, complete, minio.PutObjectOptions{}); err != nil {
		// The answer of an earlier try may have been lost: then the object is there.
		u.stored.Store(0)
		if has, herr := u.has(ctx, want); herr == nil && has {
			return nil
		}
		return u.explain(ctx, err)
	}
	o, err := u.b.Stat(ctx, u.key)
	if err != nil {
		return err
	}
	if o.Size != u.size {
		return u.b.wrong("storing", u.key, fmt.Sprintf("%d bytes were sent, and it has %d", u.size, o.Size))
	}
	if o.ETag == want && !u.opaque.Load() {
		return nil
	}
	return u.readBack(ctx)
}

// tagOf is the tag of an object that was stored in parts.
func tagOf(parts []sums) string {
	h := md5.New()
	for _, p := range parts {
		h.Write(p.md5[:])
	}
	return fmt.Sprintf("%x-%d", h.Sum(nil), len(parts))
}

// readBack compares the whole object with its hash, where its tag does not tell.
func (u *upload) readBack(ctx context.Context) error {
	f, err := u.b.File(ctx, u.key)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if err := hashInto(ctx, io.NewSectionReader(f, 0, u.size), u.size, h); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != u.want || f.object.Size != u.size {
		return u.b.wrong("storing", u.key, fmt.Sprintf("what was sent has the SHA-256 %.12s…, and what it gives back %.12s…", u.want, got))
	}
	return nil
}

// find is the newest upload of the key that was begun and not completed, with the
// parts that the store has of it; older ones are given up.
func (u *upload) find(ctx context.Context) (id string, parts map[int]minio.ObjectPart, err error) {
	all, err := u.b.unfinished(ctx, u.name())
	if err != nil {
		return "", nil, err
	}
	var newest minio.ObjectMultipartInfo
	for _, m := range all {
		if m.Key != u.name() {
			continue
		}
		if newest.UploadID != "" && m.Initiated.Before(newest.Initiated) {
			m, newest = newest, m
		}
		if newest.UploadID != "" {
			u.b.core.AbortMultipartUpload(ctx, u.b.at.Bucket, newest.Key, newest.UploadID) // what stays is given up with the checkpoint
		}
		newest = m
	}
	if newest.UploadID == "" {
		return "", nil, nil
	}
	parts = map[int]minio.ObjectPart{}
	for marker := 0; ; {
		r, err := u.b.core.ListObjectParts(ctx, u.b.at.Bucket, u.name(), newest.UploadID, marker, 1000)
		if err != nil {
			if e := u.explain(ctx, err); !errors.Is(e, fs.ErrNotExist) {
				return "", nil, e
			}
			return "", nil, nil // it has been given up meanwhile
		}
		for _, p := range r.ObjectParts {
			parts[p.PartNumber] = p
		}
		if !r.IsTruncated || r.NextPartNumberMarker <= marker {
			return newest.UploadID, parts, nil
		}
		marker = r.NextPartNumberMarker
	}
}

// unfinished lists the uploads of whole keys that begin with prefix.
func (b *Bucket) unfinished(ctx context.Context, prefix string) (all []minio.ObjectMultipartInfo, err error) {
	key, id := "", ""
	for {
		r, err := b.core.ListMultipartUploads(ctx, b.at.Bucket, prefix, key, id, "", 1000)
		if err != nil {
			return nil, b.explain(ctx, "looking for unfinished uploads in", strings.TrimPrefix(strings.TrimPrefix(prefix, b.at.Prefix), "/"), err)
		}
		for _, m := range r.Uploads {
			if strings.HasPrefix(m.Key, prefix) {
				all = append(all, m)
			}
		}
		if !r.IsTruncated || r.NextKeyMarker == key && r.NextUploadIDMarker == id || len(all) > maxObjects {
			return all, nil
		}
		key, id = r.NextKeyMarker, r.NextUploadIDMarker
	}
}

// Abandon gives up unfinished uploads of keys that begin with prefix, so that the
// store keeps no parts of them, and says how many.
func (b *Bucket) Abandon(ctx context.Context, prefix string, which func(key string) bool) (n int, err error) {
	whole := b.at.Prefix
	if whole != "" {
		whole += "/"
	}
	all, err := b.unfinished(ctx, whole+prefix)
	if err != nil {
		return 0, err
	}
	for _, m := range all {
		if !which(strings.TrimPrefix(m.Key, whole)) {
			continue
		}
		if err := b.core.AbortMultipartUpload(ctx, b.at.Bucket, m.Key, m.UploadID); err != nil {
			if e := b.explain(ctx, "giving up an upload of", strings.TrimPrefix(m.Key, whole), err); !errors.Is(e, fs.ErrNotExist) {
				return n, e
			}
		}
		n++
	}
	return n, nil
}
