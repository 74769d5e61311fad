package convert

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/sniff"
)

const (
	maxMember = 1 << 28 // bytes, unpacked too
	maxParts  = 1 << 10 // members of a sample
	maxShards = 1 << 20
)

// maxSample bounds the bytes of all members of a sample, which are in memory at once. A
// test has it lower.
var maxSample int64 = 1 << 29

// sample is the members of one key that stand together.
type sample struct {
	shard  string
	at     int // of the shard, in the list
	number int // in the shard, from 0
	key    string
	parts  []part
}

// part is one member of a sample.
type part struct {
	ext  string // all after the first dot of the name, in small letters
	body []byte
}

// bytes is how many the members have.
func (s sample) bytes() (n int64) {
	for _, p := range s.parts {
		n += int64(len(p.body))
	}
	return n
}

// errorf is an error about the sample, which it names.
func (s sample) errorf(format string, a ...any) error {
	return fmt.Errorf("%s: sample %s: %w", s.shard, s.key, fmt.Errorf(format, a...))
}

var braces = regexp.MustCompile(`\{(\d+)\.\.(\d+)\}`)

// expand makes a list of the shards that names with {000..123} stand for.
func expand(names []string) (out []string, err error) {
	for _, name := range names {
		m := braces.FindStringSubmatchIndex(name)
		if m == nil {
			out = append(out, name)
			continue
		}
		lo, hi := name[m[2]:m[3]], name[m[4]:m[5]]
		a, e1 := strconv.Atoi(lo)
		b, e2 := strconv.Atoi(hi)
		if e1 != nil || e2 != nil || b < a || b-a >= maxShards {
			return nil, fmt.Errorf("%s: {%s..%s} is no range of shards; want the lesser number first", name, lo, hi)
		}
		var more []string
		for n := a; n <= b; n++ {
			more = append(more, fmt.Sprintf("%s%0*d%s", name[:m[0]], len(lo), n, name[m[1]:]))
		}
		if more, err = expand(more); err != nil {
			return nil, err
		}
		if out = append(out, more...); len(out) > maxShards {
			return nil, fmt.Errorf("%s stands for more than %d shards", name, maxShards)
		}
	}
	return out, nil
}

// split divides a member's name into key and extension at the first dot of its
// last part. Names without a dot, or with nothing before it, belong to no sample.
func split(name string) (key, ext string, ok bool) {
	dir, base := path.Split(name)
	stem, ext, ok := strings.Cut(base, ".")
	return dir + stem, strings.ToLower(ext), ok && stem != ""
}

// meta are members that describe a shard and are no sample's.
var meta = regexp.MustCompile(`^__[^/]*__($|/)`)

// errEnough ends the reading of a shard without an error.
var errEnough = errors.New("the rest of the shard is not needed")

// shards yields the samples of a list of shards, in order, but those of shards that it
// skips. "-" is stdin. done is told how many bytes of the shards are read.
func shards(ctx context.Context, names []string, stdin io.Reader, skips func(int) bool, done func(int64), yield func(sample) error) error {
	var before int64
	for at, name := range names {
		number := 0
		n, err := int64(0), error(nil)
		if !skips(at) {
			n, err = shard(ctx, name, stdin, func(n int64) { done(before + n) }, func(s sample) error {
				s.at, s.number = at, number
				number++
				if err := yield(s); err != nil || !skips(at) {
					return err
				}
				return errEnough
			})
		}
		if errors.Is(err, errEnough) || skips(at) {
			n, err = sizeOf(ctx, name)
		}
		if err != nil {
			return err
		}
		before += n
	}
	return nil
}

func shard(ctx context.Context, name string, stdin io.Reader, done func(int64), yield func(sample) error) (int64, error) {
	count := &counter{r: stdin}
	if name == "-" {
		name = "standard input"
	} else {
		f, size, err := openShard(ctx, name)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		if what := sniff.Instead(sniff.Head(f, size), sniff.Shard); what != "" {
			return 0, fmt.Errorf("%s: %s", name, what)
		}
		count.r = io.NewSectionReader(f, 0, size)
	}
	buffered := bufio.NewReaderSize(count, 1<<20)
	r := io.Reader(buffered)
	if head, _ := buffered.Peek(2); len(head) == 2 && head[0] == 0x1f && head[1] == 0x8b {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		r = z
	}
	t := tar.NewReader(r)
	now := sample{shard: name}
	give := func() error {
		if len(now.parts) == 0 {
			return nil
		}
		err := yield(now)
		now = sample{shard: name}
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return count.n, give()
		}
		if err != nil {
			return 0, fmt.Errorf("%s: behind sample %q: %w: it is no tar archive, or one that is cut off or damaged", name, now.key, err)
		}
		key, ext, ok := split(strings.TrimPrefix(path.Clean(h.Name), "./"))
		if !h.FileInfo().Mode().IsRegular() || !ok || meta.MatchString(h.Name) {
			continue
		}
		if key != now.key {
			if err := give(); err != nil {
				return 0, err
			}
			now.key = key
			done(count.n)
		}
		for _, p := range now.parts {
			if p.ext == ext {
				return 0, now.errorf("it has two members called .%s; write each sample's members one after the other, each once", ext)
			}
		}
		if len(now.parts) >= maxParts {
			return 0, now.errorf("it has more than %d members", maxParts)
		}
		left := maxSample - now.bytes()
		body, err := read(t, h.Size, left)
		if err == nil && strings.HasSuffix(ext, ".gz") {
			ext = strings.TrimSuffix(ext, ".gz")
			body, err = unpack(body, left)
		}
		if err != nil {
			return 0, now.errorf("member .%s: %w", ext, err)
		}
		now.parts = append(now.parts, part{ext, body})
	}
}

// read reads a member, of which the header says how long it is; left is what its sample
// may still have.
func read(r io.Reader, size, left int64) ([]byte, error) {
	switch {
	case size > maxMember:
		return nil, fmt.Errorf("it has %d bytes; want at most %d", size, maxMember)
	case size > left:
		return nil, fmt.Errorf("with its %d bytes the sample has more than %d", size, maxSample)
	}
	return io.ReadAll(r)
}

func unpack(b []byte, left int64) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	most := min(maxMember, left)
	out, err := io.ReadAll(io.LimitReader(z, most+1))
	if err == nil && int64(len(out)) > most {
		err = fmt.Errorf("it unpacks to more than %d bytes", most)
	}
	return out, err
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
