package natsbus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

// What a server says to a client, as far as the ring's connection needs it:
//
//	INFO {…}                                  what it is and wants, first of all and when that changes
//	MSG subject sid [reply] size              and then so many bytes and CR LF
//	PING, PONG, +OK, -ERR 'text'
//
// Each line ends with CR LF, of which LF counts.
type verb uint8

const (
	verbInfo verb = iota + 1
	verbMsg
	verbPing
	verbPong
	verbOK
	verbErr
)

func (v verb) String() string {
	return [...]string{"nothing", "INFO", "MSG", "PING", "PONG", "+OK", "-ERR"}[v]
}

const (
	protoBuffer = 4 << 10  // room for lines: what of a message is read with its line is copied once more
	protoLine   = 64 << 10 // longest line: an INFO that lists every server of a large cluster
)

var errProto = errors.New("this is not NATS's protocol")

// protoReader splits a server's words. It makes nothing that lasts: a line is
// valid until the next call, and a payload goes where the caller wants it.
type protoReader struct {
	src    io.Reader
	buf    []byte
	lo, hi int // what has been read and not used
}

func newProtoReader(src io.Reader) *protoReader {
	return &protoReader{src: src, buf: make([]byte, protoBuffer)}
}

// buffered is how many bytes have been read ahead.
func (r *protoReader) buffered() int { return r.hi - r.lo }

// next returns the next line: its verb and what follows.
func (r *protoReader) next() (verb, []byte, error) {
	line, err := r.line()
	if err != nil {
		return 0, nil, err
	}
	v, args := parseVerb(line)
	if v == 0 {
		return 0, nil, fmt.Errorf("%w: a line begins with %.16q", errProto, line)
	}
	return v, args, nil
}

func (r *protoReader) line() ([]byte, error) {
	for seen := 0; ; {
		if i := bytes.IndexByte(r.buf[r.lo+seen:r.hi], '\n'); i >= 0 {
			line := r.buf[r.lo : r.lo+seen+i]
			r.lo += seen + i + 1
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			return line, nil
		}
		seen = r.hi - r.lo
		if err := r.fill(); err != nil {
			if err == io.EOF && seen > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// fill reads more, behind what there is.
func (r *protoReader) fill() error {
	if r.lo > 0 {
		r.hi = copy(r.buf, r.buf[r.lo:r.hi])
		r.lo = 0
	}
	if r.hi == len(r.buf) {
		if len(r.buf) >= protoLine {
			return fmt.Errorf("%w: a line of more than %d bytes", errProto, protoLine)
		}
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	n, err := r.src.Read(r.buf[r.hi:])
	r.hi += n
	if n > 0 {
		return nil // an error comes again
	}
	return err // nil of an empty write to a pipe
}

// payload reads what follows a MSG line into all of dst.
func (r *protoReader) payload(dst []byte) error {
	n := copy(dst, r.buf[r.lo:r.hi])
	r.lo += n
	if _, err := io.ReadFull(r.src, dst[n:]); err != nil {
		return unexpected(err)
	}
	return r.end()
}

// skip drops the payload of n bytes that follows a MSG line.
func (r *protoReader) skip(n int) error {
	for n > 0 {
		if r.lo == r.hi {
			if err := r.fill(); err != nil {
				return unexpected(err)
			}
		}
		k := min(n, r.hi-r.lo)
		r.lo, n = r.lo+k, n-k
	}
	return r.end()
}

// end reads what ends a payload.
func (r *protoReader) end() error {
	line, err := r.line()
	if err != nil {
		return unexpected(err)
	}
	if len(line) > 0 {
		return fmt.Errorf("%w: a payload is longer than was said", errProto)
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseVerb is the verb of a line, 0 where it has none that a server may say
// here, and what follows.
func parseVerb(line []byte) (verb, []byte) {
	word, rest := line, []byte(nil)
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		word, rest = line[:i], bytes.Trim(line[i:], " \t")
	}
	for v, s := range [...]string{verbInfo: "INFO", verbMsg: "MSG", verbPing: "PING", verbPong: "PONG", verbOK: "+OK", verbErr: "-ERR"} {
		if v > 0 && len(word) == len(s) && equalFold(word, s) {
			return verb(v), rest
		}
	}
	return 0, nil
}

// equalFold compares with an upper-case word.
func equalFold(b []byte, upper string) bool {
	for i := range b {
		c := b[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

// parseMsg is what a MSG line says, of which only the subscription and the size
// matter: a connection has one subscription, to one subject.
func parseMsg(args []byte) (from []byte, sid, size int, err error) {
	var fields [4][]byte
	n := 0
	for rest := args; len(rest) > 0; n++ {
		i := bytes.IndexAny(rest, " \t")
		if i < 0 {
			i = len(rest)
		}
		if n == len(fields) {
			return nil, 0, 0, fmt.Errorf("%w: MSG with more than 4 words", errProto)
		}
		fields[n] = rest[:i]
		rest = bytes.TrimLeft(rest[i:], " \t")
	}
	if n < 3 {
		return nil, 0, 0, fmt.Errorf("%w: MSG with %d words", errProto, n)
	}
	sid, ok := parseCount(fields[1])
	size, fine := parseCount(fields[n-1])
	if !ok || !fine {
		return nil, 0, 0, fmt.Errorf("%w: MSG of subscription %.16q with %.16q bytes", errProto, fields[1], fields[n-1])
	}
	return fields[0][bytes.LastIndexByte(fields[0], '.')+1:], sid, size, nil
}

// parseCount is a decimal number below 2³¹.
func parseCount(b []byte) (int, bool) {
	n := 0
	if len(b) == 0 || len(b) > 10 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, n <= math.MaxInt32
}
