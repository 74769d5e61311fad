package natsbus

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

func TestProtoReader(t *testing.T) {
	long := strings.Repeat("x", 3*protoBuffer)
	words := "INFO {\"a\":1}\r\nPING\r\n+OK\r\nmsg vlaring.j.ring.a 1 3\r\nabc\r\nMSG\ta.b  1  _INBOX.x\t5\r\n\r\nde\n\r\nPONG\n-ERR 'Slow Consumer'\r\nINFO " + long + "\r\nMSG a 1 0\r\n\r\n"
	for name, src := range map[string]io.Reader{
		"at once":      strings.NewReader(words),
		"byte by byte": iotest.OneByteReader(strings.NewReader(words)),
		"halves":       iotest.HalfReader(strings.NewReader(words)),
		"with the end": iotest.DataErrReader(strings.NewReader(words)),
	} {
		r := newProtoReader(src)
		for _, want := range []struct {
			v       verb
			args    string
			payload string
		}{
			{verbInfo, `{"a":1}`, ""}, {verbPing, "", ""}, {verbOK, "", ""}, {verbMsg, "vlaring.j.ring.a 1 3", "abc"},
			{verbMsg, "a.b  1  _INBOX.x\t5", "\r\nde\n"}, {verbPong, "", ""}, {verbErr, "'Slow Consumer'", ""},
			{verbInfo, long, ""}, {verbMsg, "a 1 0", ""},
		} {
			v, args, err := r.next()
			if err != nil || v != want.v || string(args) != want.args {
				t.Fatalf("%s: got %v %.40q, %v; want %v %.40q", name, v, args, err, want.v, want.args)
			}
			if v != verbMsg {
				continue
			}
			_, sid, size, err := parseMsg(args)
			if err != nil || sid != 1 || size != len(want.payload) {
				t.Fatalf("%s: subscription %d, %d bytes, %v; want 1 and %d", name, sid, size, err, len(want.payload))
			}
			got := make([]byte, size)
			if err := r.payload(got); err != nil || string(got) != want.payload {
				t.Fatalf("%s: payload %q, %v; want %q", name, got, err, want.payload)
			}
		}
		if _, _, err := r.next(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

func TestProtoReaderSkips(t *testing.T) {
	words := "MSG a 1 100000\r\n" + strings.Repeat("\n", 100000) + "\r\nPING\r\n"
	r := newProtoReader(iotest.HalfReader(strings.NewReader(words)))
	if v, _, err := r.next(); v != verbMsg || err != nil {
		t.Fatal(v, err)
	}
	if err := r.skip(100000); err != nil {
		t.Fatal(err)
	}
	if v, _, err := r.next(); v != verbPing || err != nil {
		t.Fatal(v, err)
	}
	if len(r.buf) > protoBuffer {
		t.Errorf("skipping took a buffer of %d bytes", len(r.buf))
	}
}

func TestProtoRefuses(t *testing.T) {
	for _, c := range []struct {
		words string
		want  error
	}{
		{"HELLO\r\n", errProto},
		{"\r\n", errProto},
		{"HMSG a 1 12 14\r\n", errProto}, // headers are not asked for
		{"MSG a 1\r\n", errProto},
		{"MSG\r\n", errProto},
		{"MSG a 1 -3\r\n", errProto},
		{"MSG a 1 3x\r\n", errProto},
		{"MSG a x 3\r\n", errProto},
		{"MSG a 1 99999999999\r\n", errProto},
		{"MSG a 1 2147483648\r\n", errProto},
		{"MSG a 1 b 3 4\r\nabc\r\n", errProto},
		{"MSG a 1 2\r\nabc\r\n", errProto},
		{"MSG a 1 3\r\nab", io.ErrUnexpectedEOF},
		{"MSG a 1 3\r\nabc", io.ErrUnexpectedEOF},
		{"MSG a 1 3", io.ErrUnexpectedEOF},
		{"INFO " + strings.Repeat("x", protoLine), errProto},
		{"", io.EOF},
	} {
		if _, err := readFrames(newProtoReader(strings.NewReader(c.words)), 1<<10); !errors.Is(err, c.want) {
			t.Errorf("%.40q: %v, want %v", c.words, err, c.want)
		}
	}
}

// readFrames reads to the end as a network does, messages of at most so many
// bytes.
func readFrames(r *protoReader, most int) (frames [][]byte, err error) {
	for {
		v, args, err := r.next()
		if err != nil {
			return frames, err
		}
		if v != verbMsg {
			continue
		}
		_, _, size, err := parseMsg(args)
		if err != nil {
			return frames, err
		}
		if size > most {
			err = r.skip(size)
		} else {
			f := make([]byte, size)
			err = r.payload(f)
			frames = append(frames, f)
		}
		if err != nil {
			return frames, err
		}
	}
}

// FuzzMSG: whatever a server says, however it is cut into reads, is understood
// the same way, and the reader keeps to its buffer.
func FuzzMSG(f *testing.F) {
	f.Add([]byte("INFO {}\r\nMSG a 1 3\r\nabc\r\nPING\r\nMSG a 1 r 2\r\nxy\r\n"))
	f.Add([]byte("MSG a 1 5000\r\n" + strings.Repeat("z", 5000) + "\r\n-ERR 'x'\r\n"))
	f.Add([]byte("MSG a 1 4294967295\r\n"))
	f.Add([]byte("+OK\nmsg  a\t1 0\n\nPONG"))
	f.Fuzz(func(t *testing.T, words []byte) {
		const most = 1 << 10
		whole := newProtoReader(bytes.NewReader(words))
		want, wantErr := readFrames(whole, most)
		cut := newProtoReader(iotest.OneByteReader(bytes.NewReader(words)))
		got, err := readFrames(cut, most)
		if len(got) != len(want) || (err == io.EOF) != (wantErr == io.EOF) || errors.Is(err, errProto) != errors.Is(wantErr, errProto) {
			t.Fatalf("%d frames and %v at once, %d and %v byte by byte", len(want), wantErr, len(got), err)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("frame %d: %q at once, %q byte by byte", i, want[i], got[i])
			}
		}
		if n := max(len(whole.buf), len(cut.buf)); n > protoLine {
			t.Fatalf("a buffer of %d bytes", n)
		}
	})
}

func TestFramePool(t *testing.T) {
	var p framePool
	if n := testing.AllocsPerRun(100, func() {
		a, b, c := p.get(64), p.get(512<<10), p.get(300<<10)
		p.put(a)
		p.put(c)
		p.put(b[:10])
	}); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
	p.put(make([]byte, 3)) // somebody else's
	for range 300 {
		p.put(make([]byte, allreduce.MaxFrame))
		p.put(make([]byte, smallFrame))
		p.put(make([]byte, smallFrame))
		p.put(make([]byte, smallFrame))
		p.put(make([]byte, smallFrame))
	}
	if p.bytes > poolBytes || len(p.small) > poolSmall {
		t.Errorf("the pool keeps %d bytes and %d small buffers", p.bytes, len(p.small))
	}
	for range 200 {
		if b := p.get(allreduce.MaxFrame); len(b) != allreduce.MaxFrame {
			t.Fatalf("%d bytes", len(b))
		}
	}
	if p.bytes < 0 || len(p.large) != 0 && p.bytes == 0 {
		t.Errorf("%d bytes counted for %d buffers", p.bytes, len(p.large))
	}
}
