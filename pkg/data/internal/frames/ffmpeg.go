package frames

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/plain"
)

// FFmpeg is the program that decodes.
type FFmpeg struct {
	Path    string
	Version string // as it calls itself
	vsync   bool   // it knows -vsync and not -fps_mode: before 5.1
}

// errNoFFmpeg says that there is none, and what to do.
var errNoFFmpeg = errors.New("there is no ffmpeg on the PATH, which decodes videos: install it (Debian, Ubuntu: apt-get install ffmpeg; macOS: brew install ffmpeg; conda: conda install -c conda-forge ffmpeg)")

// Find is the ffmpeg on the PATH.
func Find() (*FFmpeg, error) {
	path, err := exec.LookPath("ffmpeg")
	if err != nil {
		return nil, errNoFFmpeg
	}
	out, err := exec.Command(path, "-hide_banner", "-version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s -version: %w", path, err)
	}
	v, old := versionOf(string(out))
	return &FFmpeg{path, v, old}, nil
}

var versionLine = regexp.MustCompile(`^ffmpeg version (\S+)`)

// versionOf reads the first line of ffmpeg -version. A build that has no number
// is of the day, and new.
func versionOf(text string) (version string, old bool) {
	m := versionLine.FindStringSubmatch(text)
	if m == nil {
		return "unknown", false
	}
	major, rest, _ := strings.Cut(strings.TrimPrefix(m[1], "n"), ".")
	a, err := strconv.Atoi(major)
	b := 0
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		b = 10*b + int(c-'0')
	}
	return m[1], err == nil && (a < 5 || a == 5 && b < 1)
}

// Frame is one decoded picture.
type Frame struct {
	Seconds float64 // when it is shown, by the video's own clock
	H, W    int
	RGB     []byte // H·W·3, the decoder's again when use returns
}

// The formats that a video may be in, by ffmpeg's names: a playlist could name
// other files and hosts.
const containers = "mov,matroska,avi,mpegts"

// args are the command's words. What they settle:
//
//   - every frame of the first video stream comes out once, none is doubled or left
//     out to make a rate even (-fps_mode passthrough), none is turned (-noautorotate),
//     and a frame that does not decode is missing rather than painted over (explode);
//   - pixels come as the decoder has them; see layouts;
//   - showinfo tells size, time and colours of each frame, the time in units of the
//     video's own clock (-copyts).
func (f *FFmpeg) args(video string, threads int) []string {
	passthrough := "-fps_mode"
	if f.vsync {
		passthrough = "-vsync"
	}
	return []string{"-hide_banner", "-nostdin", "-nostats", "-v", "level+info",
		"-protocol_whitelist", "file", "-format_whitelist", containers, "-threads", strconv.Itoa(threads), "-err_detect", "explode", "-noautorotate", "-copyts",
		"-i", "file:" + video, "-map", "0:v:0", "-sws_flags", "bitexact+accurate_rnd",
		"-vf", "format=pix_fmts=" + formats + ",showinfo=checksum=0", passthrough, "passthrough", "-f", "rawvideo", "pipe:1"}
}

// Decode hands the frames of a video to use, in the order of showing. It ends with
// the first error, its own or of use, and says what ffmpeg said. warn has what
// ffmpeg complained of where it went on to the end.
func (f *FFmpeg) Decode(ctx context.Context, video string, threads int, use func(Frame) error) (warn []string, err error) {
	if video, err = filepath.Abs(video); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(running, f.Path, f.args(video, threads)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l := &log{heads: make(chan head, maxAhead), done: make(chan struct{})}
	go l.read(stderr)
	useErr := frames(bufio.NewReaderSize(stdout, 1<<16), l.heads, use)
	if useErr != nil {
		cancel() // nobody reads the rest
	}
	for range l.heads { // those that nobody asked for
	}
	<-l.done
	waitErr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case useErr != nil && !errors.Is(useErr, errShort):
		return nil, useErr
	case waitErr != nil || useErr != nil:
		return nil, fmt.Errorf("it does not decode: %s", reason(l.complaints, errors.Join(waitErr, useErr)))
	}
	return l.complaints, nil
}

// maxAhead is how many frames ffmpeg may tell of before the first of them is read:
// many more than it holds.
const maxAhead = 1 << 12

// errShort says that pixels end before the frames that were told of.
var errShort = errors.New("its output ends early")

// head is what is told of a frame.
type head struct {
	seconds float64
	h, w    int
	format  string // of its pixels
	space   string // of its colours
	full    bool   // the range
}

// frames reads the pixels of the frames that heads tell of.
func frames(r io.Reader, heads <-chan head, use func(Frame) error) error {
	var raw, rgb []byte
	var first head
	var pixels *yuv
	n := 0
	for x := range heads {
		if n == 0 {
			var err error
			if pixels, err = newYUV(x.format, x.space, x.full); err != nil {
				return err
			}
			first, raw, rgb = x, make([]byte, pixels.size(x.h, x.w)), make([]byte, 3*x.h*x.w)
		}
		if x.h != first.h || x.w != first.w {
			return fmt.Errorf("frame %d is of %d×%d pixels, the ones before it of %d×%d", n, x.w, x.h, first.w, first.h)
		}
		if x.format != first.format || x.space != first.space || x.full != first.full {
			return fmt.Errorf("frame %d has colours of another kind than the ones before it", n)
		}
		if _, err := io.ReadFull(r, raw); err != nil {
			return errShort
		}
		pixels.convert(rgb, raw, x.h, x.w)
		if err := use(Frame{x.seconds, x.h, x.w, rgb}); err != nil {
			return err
		}
		n++
	}
	if k, _ := io.Copy(io.Discard, r); k > 0 {
		return fmt.Errorf("ffmpeg gave %d bytes more than the %d frames that it told of", k, n)
	}
	return nil
}

// log reads what ffmpeg says: of each frame, and what it complains of.
type log struct {
	heads      chan head
	done       chan struct{}
	complaints []string // to be read after done
	num, den   float64  // of the clock
	last       head     // whose colours may be told yet
	pending    bool     // there is one
}

// maxComplaints is how many lines of ffmpeg's complaints are kept, the first.
const maxComplaints = 5

var (
	clockLine = regexp.MustCompile(`showinfo\S* @ .*config in time_base: (\d+)/(\d+)`)
	frameLine = regexp.MustCompile(`showinfo\S* @ .*\bn: *\d+ pts: *(-?\d+|NOPTS) .*\bfmt:(\S+) .* s:(\d+)x(\d+) `)
	colours   = regexp.MustCompile(`showinfo\S* @ .*color_range:(\S+) color_space:(\S+)`)
	errorLine = regexp.MustCompile(`\[(?:error|fatal|panic)\] (.*)`)
)

func (l *log) read(r io.Reader) {
	defer close(l.done)
	defer close(l.heads)
	defer l.tell()
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := in.ReadSlice('\n') // the rest of a longer line is a line
		l.line(bytes.TrimSpace(line))
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

// tell hands over the last frame.
func (l *log) tell() {
	if l.pending {
		l.heads <- l.last
	}
	l.pending = false
}

func (l *log) line(b []byte) {
	if m := frameLine.FindSubmatch(b); m != nil {
		l.tell()
		pts, err := strconv.ParseInt(string(m[1]), 10, 64)
		h, err2 := strconv.Atoi(string(m[4]))
		w, err3 := strconv.Atoi(string(m[3]))
		if err != nil || l.den == 0 {
			l.complain("a frame without a time")
		}
		if err2 != nil || err3 != nil || h < 1 || w < 1 || h > maxSide || w > maxSide {
			l.complain(fmt.Sprintf("a frame of %s×%s pixels", m[3], m[4]))
			h, w = 1, 1 // which its pixels are not
		}
		l.last, l.pending = head{seconds: float64(pts) * l.num / l.den, h: h, w: w, format: string(m[2])}, true
		return
	}
	if m := colours.FindSubmatch(b); m != nil {
		l.last.full, l.last.space = string(m[1]) == "pc", string(m[2])
		l.tell()
		return
	}
	if m := clockLine.FindSubmatch(b); m != nil {
		l.num, _ = strconv.ParseFloat(string(m[1]), 64)
		l.den, _ = strconv.ParseFloat(string(m[2]), 64)
		return
	}
	if m := errorLine.FindSubmatch(b); m != nil {
		l.complain(string(m[1]))
	}
}

func (l *log) complain(s string) {
	if len(l.complaints) < maxComplaints {
		l.complaints = append(l.complaints, plain.Line(s, 300))
	}
}

// reason is why decoding failed, and what helps where that is known.
func reason(complaints []string, err error) string {
	s := strings.Join(complaints, "; ")
	if s == "" {
		return fmt.Sprintf("ffmpeg: %v", err)
	}
	s = "ffmpeg says: " + s
	switch {
	case strings.Contains(s, "Decoder (codec"), strings.Contains(s, "hardware accelerated AV1"), strings.Contains(s, "Unknown decoder"), strings.Contains(s, "codec none"):
		s += "; this ffmpeg has no decoder for it: install one that has (for AV1 with libdav1d, as the packages of Debian, Ubuntu, Homebrew and conda-forge are)"
	case strings.Contains(s, "moov atom not found"), strings.Contains(s, "Invalid data found"):
		s += "; it was cut or is something else: download or copy it again"
	}
	return s
}
