package frames

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// picture is frame k of a store that tests make: every byte says where it is.
func picture(k, h, w int) []byte {
	b := make([]byte, 3*h*w)
	for i := range b {
		b[i] = byte(31*k + i)
	}
	return b
}

func made(t *testing.T, n, h, w int, s Source) []byte {
	t.Helper()
	var b bytes.Buffer
	out := NewWriter(&b, h, w)
	for k := range n {
		if err := out.Add(float64(k)/10, picture(k, h, w)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func kept(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.frames")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// What was written is read, each frame at its place.
func TestStore(t *testing.T) {
	src := Source{H: 480, W: 640, Bytes: 12345, Sample: [32]byte{1, 2, 3}}
	b := made(t, 5, 2, 3, src)
	if int64(len(b)) != Size(5, 2, 3) {
		t.Errorf("%d bytes, Size says %d", len(b), Size(5, 2, 3))
	}
	s, err := Open(kept(t, b))
	if err != nil {
		t.Fatal(err)
	}
	if s.H != 2 || s.W != 3 || !reflect.DeepEqual(s.Times, []float64{0, 0.1, 0.2, 0.3, 0.4}) || s.Source != src {
		t.Errorf("%+v", s)
	}
	var files Files
	defer files.Close()
	for _, k := range []int{4, 0, 2, 2} {
		got, err := files.Frame(s, k)
		if err != nil || !bytes.Equal(got, picture(k, 2, 3)) {
			t.Errorf("frame %d: %v, %v", k, got, err)
		}
	}
	if len(files.idle) != 1 {
		t.Errorf("%d files are open", len(files.idle))
	}
	for _, c := range []struct {
		t   float64
		k   int
		off float64
	}{{-1, 0, -1}, {0, 0, 0}, {0.1, 1, 0}, {0.140625, 1, 0.040625}, {0.1875, 2, -0.0125}, {0.4, 4, 0}, {7, 4, 6.6}} {
		if k, off := s.Nearest(c.t); k != c.k || off-c.off > 1e-9 || c.off-off > 1e-9 {
			t.Errorf("nearest to %v: %d, %v", c.t, k, off)
		}
	}
}

// The hash is of pixels and times, not of the video that they are from.
func TestContent(t *testing.T) {
	open := func(b []byte) *Store {
		s, err := Open(kept(t, b))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a := open(made(t, 3, 2, 2, Source{H: 2, W: 2}))
	if b := open(made(t, 3, 2, 2, Source{H: 9, W: 9, Bytes: 7})); a.Content != b.Content {
		t.Error("the source counts")
	}
	if b := open(made(t, 4, 2, 2, Source{})); a.Content == b.Content {
		t.Error("a frame more does not count")
	}
	if b := open(made(t, 3, 1, 4, Source{})); a.Content == b.Content {
		t.Error("the shape does not count")
	}
	var late bytes.Buffer
	w := NewWriter(&late, 2, 2)
	for k := range 3 {
		if err := w.Add(float64(k)/5, picture(k, 2, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(Source{}); err != nil {
		t.Fatal(err)
	}
	if b := open(late.Bytes()); a.Content == b.Content {
		t.Error("times do not count")
	}
}

// Every byte that is another, and every length that is another, is found: in the
// index when the store is opened, in a frame when that is read.
func TestDamage(t *testing.T) {
	b := made(t, 3, 2, 2, Source{H: 2, W: 2})
	var files Files
	defer files.Close()
	read := func(b []byte) error {
		s, err := Open(kept(t, b))
		for k := 0; err == nil && k < len(s.Times); k++ {
			_, err = files.Frame(s, k)
		}
		return err
	}
	if err := read(b); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 0x40
		if err := read(c); err == nil || !errors.Is(err, errDamaged) && !strings.Contains(err.Error(), "version") {
			t.Errorf("byte %d of %d: %v", i, len(b), err)
		}
	}
	for i := range len(b) {
		if err := read(b[:i]); !errors.Is(err, errDamaged) {
			t.Errorf("cut to %d of %d: %v", i, len(b), err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, 1, 1)
	if err := w.Close(Source{}); err == nil {
		t.Error("no frame")
	}
	if err := w.Add(1, []byte{1, 2}); err == nil {
		t.Error("two bytes for a pixel")
	}
	if err := w.Add(1, []byte{1, 2, 3}); err != nil {
		t.Error(err)
	}
	if err := w.Add(1, []byte{1, 2, 3}); err == nil {
		t.Error("two frames at one time")
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string]struct {
		v   string
		old bool
	}{
		"ffmpeg version 5.1.9-0+deb12u1 Copyright": {"5.1.9-0+deb12u1", false},
		"ffmpeg version 4.4.2-0ubuntu0.22.04.1 C":  {"4.4.2-0ubuntu0.22.04.1", true},
		"ffmpeg version n5.0 Copyright":            {"n5.0", true},
		"ffmpeg version 8.0":                       {"8.0", false},
		"ffmpeg version 10.1":                      {"10.1", false},
		"ffmpeg version N-109000-g1234 Copyright":  {"N-109000-g1234", false},
		"something": {"unknown", false},
	} {
		if v, old := versionOf(text); v != want.v || old != want.old {
			t.Errorf("%q: %s, %v", text, v, old)
		}
	}
}

// The log of ffmpeg 5.1, with a line of an older one and one of 7.1.
func TestLog(t *testing.T) {
	text := `[libdav1d @ 0x55fb84c2e180] [info] libdav1d 1.0.0
[Parsed_showinfo_0 @ 0x55fb84c98ac0] [info] config in time_base: 1/15360, frame_rate: 30/1
[Parsed_showinfo_0 @ 0x55fb84c98ac0] [info] n:   0 pts:      0 pts_time:0       pos:       48 fmt:yuv420p sar:1/1 s:640x480 i:P iskey:1 type:I 
[Parsed_showinfo_0 @ 0x55fb84c98ac0] [info] color_range:tv color_space:unknown color_primaries:unknown color_trc:unknown
[info] frame=    1 fps=0.0 q=0.0 size=       0kB time=00:00:00.00 bitrate=N/A speed=   0x    [Parsed_showinfo_0 @ 0x55fb84c98ac0] [info] n:   1 pts:    512 pts_time:0.0333333 pos:    18832 fmt:yuv420p sar:1/1 s:640x480 i:P iskey:0 type:P 
[Parsed_showinfo_0 @ 0x600003a08000] [info] n:   2 pts:   1024 pts_time:0.0666667 duration:    512 duration_time:0.0333333 fmt:yuv420p cl:left sar:1/1 s:320x480 i:P iskey:1 type:I 
[Parsed_showinfo_0 @ 0x600003a08000] [info] color_range:pc color_space:bt709 color_primaries:bt709 color_trc:bt709
[h264 @ 0x1] [error] error while decoding MB 3 4
`
	l := &log{heads: make(chan head, 9), done: make(chan struct{})}
	l.read(strings.NewReader(text))
	var got []head
	for h := range l.heads {
		got = append(got, h)
	}
	if want := []head{{0, 480, 640, "yuv420p", "unknown", false}, {512 / 15360., 480, 640, "yuv420p", "", false}, {1024 / 15360., 480, 320, "yuv420p", "bt709", true}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if want := []string{"error while decoding MB 3 4"}; !reflect.DeepEqual(l.complaints, want) {
		t.Errorf("%q", l.complaints)
	}
}

// Frames of another size, and an output that is longer or shorter than what was
// told, are found.
func TestFramesFitTheLog(t *testing.T) {
	at := func(seconds float64, h, w int) head { return head{seconds, h, w, "rgb24", "unknown", false} }
	for name, c := range map[string]struct {
		heads []head
		bytes int
		want  string
	}{
		"all":           {[]head{at(0, 1, 2), at(1, 1, 2)}, 12, ""},
		"short":         {[]head{at(0, 1, 2), at(1, 1, 2)}, 11, "its output ends early"},
		"long":          {[]head{at(0, 1, 2)}, 7, "ffmpeg gave 1 bytes more than the 1 frames"},
		"other shape":   {[]head{at(0, 1, 2), at(1, 2, 2)}, 18, "frame 1 is of 2×2 pixels, the ones before it of 2×1"},
		"other colours": {[]head{at(0, 1, 2), {1, 1, 2, "rgb24", "bt709", false}}, 18, "frame 1 has colours of another kind"},
		"other pixels":  {[]head{{0, 1, 2, "pal8", "unknown", false}}, 18, `its pixels are "pal8"`},
		"other space":   {[]head{{0, 1, 2, "yuv420p", "ycgco", false}}, 18, `its colour space is "ycgco"`},
	} {
		heads := make(chan head, 9)
		for _, h := range c.heads {
			heads <- h
		}
		close(heads)
		err := frames(bytes.NewReader(make([]byte, c.bytes)), heads, func(Frame) error { return nil })
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// ffmpeg is the one on this machine; without it a test that needs it says so.
func ffmpeg(t *testing.T) *FFmpeg {
	t.Helper()
	f, err := Find()
	if err != nil {
		t.Log("NOT TESTED: decoding of videos:", err)
		t.Skip("no ffmpeg")
	}
	return f
}

const clip = "../../testdata/lerobot/v3-video/videos/observation.images.front/chunk-000/file-001.mp4"

// A video with B-frames comes out in the order of showing, with its times. Its
// frames are of one colour each, made by tools/lerobot_fixture.py.
func TestDecode(t *testing.T) {
	f := ffmpeg(t)
	n := 0
	of := [][2]int{{1, 0}, {1, 1}, {1, 2}, {1, 3}, {2, 0}, {2, 1}} // episode, frame
	warn, err := f.Decode(context.Background(), clip, 1, func(x Frame) error {
		if x.H != 16 || x.W != 24 || x.Seconds != float64(n)/10 {
			t.Errorf("frame %d: %d×%d at %v s", n, x.W, x.H, x.Seconds)
		}
		want := [3]int{40 + 80*of[n][0], 30 + 50*of[n][1], 120}
		for i, v := range x.RGB {
			if d := int(v) - want[i%3]; d < -4 || d > 4 {
				t.Fatalf("frame %d, byte %d: %d, want %d", n, i, v, want[i%3])
			}
		}
		n++
		return nil
	})
	if err != nil || len(warn) > 0 || n != 6 {
		t.Errorf("%d frames, %q, %v", n, warn, err)
	}
}

func TestDecodeEnds(t *testing.T) {
	f := ffmpeg(t)
	stop := errors.New("enough")
	if _, err := f.Decode(context.Background(), clip, 1, func(Frame) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	if _, err := f.Decode(ctx, clip, 1, func(Frame) error { cancel(stop); return nil }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	b, err := os.ReadFile(clip)
	if err != nil {
		t.Fatal(err)
	}
	path := kept(t, b[:200])
	if _, err := f.Decode(context.Background(), path, 1, func(Frame) error { return nil }); err == nil || !strings.Contains(err.Error(), "it was cut or is something else") {
		t.Errorf("%v", err)
	}
	// A playlist that names another file is not followed.
	list := kept(t, []byte("ffconcat version 1.0\nfile /etc/hostname\n"))
	if _, err := f.Decode(context.Background(), list, 1, func(Frame) error { return nil }); err == nil {
		t.Error("a playlist is read")
	}
}
