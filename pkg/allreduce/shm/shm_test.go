//go:build linux

package shm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/teamtest"
)

var testLayout = Layout{Words: teamtest.Words, Floats: teamtest.Floats}

// TestMain is also the child process of tests that need another one.
func TestMain(m *testing.M) {
	switch os.Getenv("SHM_TEST_CHILD") {
	case "ask": // as another user
		_, err := ask(context.Background(), os.Getenv("SHM_TEST_ADDRESS"), askSegment, 0, 2)
		fmt.Println("answer:", err)
		os.Exit(0)
	case "rank":
		childRank()
	}
	os.Exit(m.Run())
}

func segments(t *testing.T, n int) (l []*Segment, addresses []string) {
	t.Helper()
	for range n {
		s, err := Open(NewAddress(), testLayout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		l, addresses = append(l, s), append(addresses, s.Address())
	}
	return l, addresses
}

// join makes the team of a generation, all ranks at once.
func join(t *testing.T, generation uint64, l []*Segment, addresses []string) []allreduce.Team {
	t.Helper()
	teams := make([]allreduce.Team, len(l))
	var wg sync.WaitGroup
	for i, s := range l {
		wg.Go(func() {
			var err error
			if teams[i], err = s.Join(t.Context(), generation, addresses, i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, a := range teams {
		t.Cleanup(func() { a.Close() })
	}
	return teams
}

func TestTeam(t *testing.T) {
	teamtest.Run(t, func(t *testing.T, n int) ([]allreduce.Team, [][2][]float32) {
		l, addresses := segments(t, n)
		var slabs [][2][]float32
		for _, s := range l {
			var own [2][]float32
			for i := range own {
				var err error
				if own[i], err = s.Slab(); err != nil {
					t.Fatal(err)
				}
			}
			slabs = append(slabs, own)
		}
		return join(t, 1, l, addresses), slabs
	})
}

// TestGenerations checks that what a rank of an older generation still writes,
// because it was frozen, reaches nobody in the next.
func TestGenerations(t *testing.T) {
	l, addresses := segments(t, 3)
	old := join(t, 1, l, addresses)
	old[2].Store(0, 9)
	old[0].Store(0, 8)
	now := join(t, 2, l[:2], addresses[:2])
	if now[0].Load(0, 0) != 0 || now[1].Load(0, 0) != 0 {
		t.Error("words of the generation before are still there")
	}
	old[2].Sum()[7] = 5
	if now[0].Sum()[7] != 0 || now[1].Sum()[7] != 0 {
		t.Error("the sum of a generation is that of the one before")
	}
	now[1].Sum()[7] = 6
	if now[0].Sum()[7] != 6 {
		t.Error("the sum of the new generation is not one memory")
	}
}

// TestRefusals are peers that cannot share, each with its words.
func TestRefusals(t *testing.T) {
	l, addresses := segments(t, 2)
	other, err := Open(NewAddress(), Layout{Words: teamtest.Words, Floats: teamtest.Floats + 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	liar, err := net.ListenUnix("unix", &net.UnixAddr{Name: NewAddress(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	go func() { // takes the request, and closes; then shares a file that is not sealed; then one that is short
		for i := 0; ; i++ {
			c, err := liar.AcceptUnix()
			if err != nil {
				return
			}
			c.Read(make([]byte, askBytes))
			if i > 0 {
				fd, _ := unix.MemfdCreate("unsealed", unix.MFD_ALLOW_SEALING)
				if i > 1 {
					unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK)
				}
				c.WriteMsgUnix([]byte{1}, unix.UnixRights(fd, fd), nil)
				unix.Close(fd)
			}
			c.Close()
		}
	}()
	for _, c := range []struct{ address, want string }{
		{NewAddress(), "cannot be reached"},
		{"@somebody-else", "is no address"},
		{"/etc/passwd", "is no address"},
		{other.Address(), "does not run the same job"},
		{liar.Addr().String(), "does not share"},
		{liar.Addr().String(), "not sealed"},
		{liar.Addr().String(), "has 0 bytes"},
	} {
		_, err := l[0].Join(t.Context(), 1, []string{addresses[0], c.address}, 0)
		var peer *PeerError
		if !errors.As(err, &peer) || peer.Local != 1 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.address, err, c.want)
		}
	}
	if _, err := l[0].Join(t.Context(), 1, addresses, 1); err == nil {
		t.Error("a place that is another's")
	}
	// and a first rank that never makes its sum
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l[1].Join(ctx, 7, addresses, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	for _, bad := range []Layout{{}, {Words: 1}, {Words: 1, Floats: maxFloats + 1}, {Words: -1, Floats: 1}} {
		if s, err := Open(NewAddress(), bad); err == nil {
			s.Close()
			t.Errorf("a segment of %+v", bad)
		}
	}
}

// TestSealed checks that nobody can take pages away from those that read them.
func TestSealed(t *testing.T) {
	l, addresses := segments(t, 2)
	if _, err := l[0].Slab(); err != nil {
		t.Fatal(err)
	}
	join(t, 1, l, addresses)
	for _, p := range l[1].peers {
		if err := unix.Ftruncate(p.fd, 0); err == nil {
			t.Error("a peer's memory shrank")
		}
	}
	if err := unix.Ftruncate(l[0].fd, 0); err == nil {
		t.Error("this process's memory shrank")
	}
}

// TestStrangers has others at the socket: noise, and another user.
func TestStrangers(t *testing.T) {
	l, addresses := segments(t, 2)
	for _, noise := range []string{"", "x", strings.Repeat("n", 4096), "segment\x00"} {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: addresses[0], Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, noise)
		c.Close()
	}
	join(t, 1, l, addresses) // it still answers
	if os.Getuid() != 0 {
		t.Log("another user was not tried: that needs root")
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir() + "/child" // that another user may run
	for _, dir := range []string{t.TempDir(), t.TempDir() + "/..", t.TempDir() + "/../.."} {
		os.Chmod(dir, 0o755)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, b, 0o755); err != nil {
		t.Fatal(err)
	}
	os.Chmod(strings.TrimSuffix(copied, "/child"), 0o755)
	cmd := exec.Command(copied)
	cmd.Dir = "/"
	cmd.Env = []string{"SHM_TEST_CHILD=ask", "SHM_TEST_ADDRESS=" + addresses[0]}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "another user") {
		t.Errorf("another user got %q, %v", out, err)
	}
}

// childRank is a rank in a process of its own: it folds until it is killed.
func childRank() {
	s, err := Open(os.Getenv("SHM_TEST_ADDRESS"), testLayout)
	if err != nil {
		panic(err)
	}
	slab, err := s.Slab()
	if err != nil {
		panic(err)
	}
	team, err := s.Join(context.Background(), 1, []string{os.Getenv("SHM_TEST_FIRST"), s.Address()}, 1)
	if err != nil {
		panic(err)
	}
	g := allreduce.Group{Generation: 1, Rank: 1, Members: []string{"a", "b"}, Micro: []int{0, 1, 2}}
	ring, err := allreduce.NewTeamRing(nil, team, g, allreduce.Hosts{0, 2}, allreduce.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println("formed")
	for step := uint64(0); ; step++ {
		op := ring.Begin(step, []allreduce.Range{{Lo: 0, Hi: teamtest.Floats}}, [][]float32{slab}, nil, nil)
		for i := range slab {
			slab[i] = float32(step) + float32(i)
		}
		op.Ready(0)
		if _, err := op.Wait(context.Background()); err != nil {
			panic(err)
		}
	}
}

// TestProcesses folds with a rank in another process, kills that in the middle,
// and goes on with its memory gone.
func TestProcesses(t *testing.T) {
	l, addresses := segments(t, 1)
	slab, err := l[0].Slab()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := NewAddress()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SHM_TEST_CHILD=rank", "SHM_TEST_ADDRESS="+child, "SHM_TEST_FIRST="+addresses[0])
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	var team allreduce.Team
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) { // until the child listens
		if team, err = l[0].Join(t.Context(), 1, []string{addresses[0], child}, 0); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "formed\n" {
		t.Fatal(line, err)
	}
	g := allreduce.Group{Generation: 1, Rank: 0, Members: []string{"a", "b"}, Micro: []int{0, 1, 2}}
	ring, err := allreduce.NewTeamRing(nil, team, g, allreduce.Hosts{0, 2}, allreduce.Options{})
	if err != nil {
		t.Fatal(err)
	}
	step := func(step uint64) (allreduce.Reduction, func()) {
		op := ring.Begin(step, []allreduce.Range{{Lo: 0, Hi: teamtest.Floats}}, [][]float32{slab}, nil, nil)
		return op, func() {
			for i := range slab {
				slab[i] = float32(i) * 0.1
			}
			op.Ready(0)
		}
	}
	for s := range uint64(200) {
		op, ready := step(s)
		ready()
		if _, err := op.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		sum, _ := op.Sum()
		for i, x := range sum[:teamtest.Floats] {
			if want := float32(float32(i)*0.1) + (float32(s) + float32(i)); math.Float32bits(x) != math.Float32bits(want) {
				t.Fatalf("step %d, element %d: %v, want %v", s, i, x, want)
			}
		}
	}
	op, ready := step(200)
	cmd.Process.Kill()
	cmd.Wait()
	ready()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := op.Wait(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) { // it may have folded its half before
		t.Error(err)
	}
	ring.Close()
	alone := join(t, 2, l, addresses) // the survivor goes on
	if len(alone[0].Sum()) != teamtest.Floats {
		t.Error("no sum")
	}
	if _, err := alone[0].Slab(0, 0); err != nil {
		t.Error(err)
	}
}

func TestHost(t *testing.T) {
	if h := Host(); len(h) != 16 || h != Host() {
		t.Errorf("host %q", h)
	}
	if a, b := NewAddress(), NewAddress(); !validAddress(a) || a == b {
		t.Error("addresses")
	}
}

// ended is a context that ends after everything else has gone well.
type ended struct{ context.Context }

func (ended) Err() error { return context.Canceled }

// TestFilesOfALateRecall: files that have come are handed over, so that whoever
// asked can close them, though nobody wants them any more.
func TestFilesOfALateRecall(t *testing.T) {
	_, addresses := segments(t, 2)
	files, err := ask(ended{t.Context()}, addresses[1], askSegment, 0, 2)
	if err != nil || len(files) != 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	closeAll(files)
}
