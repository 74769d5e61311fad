package shm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A request is 16 bytes: what is asked for, and a generation. The answer is one
// byte, and files with it. Whoever is not of this user gets nothing.
const (
	askSegment = "segment\x00" // the segment's file and its bell
	askSum     = "the sum\x00" // the sum of a generation, once it is there
	askBytes   = 16
)

// prefix begins the name of every socket; "@" stands for the zero byte of the
// abstract name space.
const prefix = "@vlaring-"

// maxAsking bounds the peers that are being answered at a time.
const maxAsking = 256

// askTimeout bounds a request and its answer, but for the wait for a sum.
const askTimeout = 5 * time.Second

// validAddress says whether a text can be the address of a segment.
func validAddress(a string) bool {
	id, ok := strings.CutPrefix(a, prefix)
	if !ok || len(id) != 32 {
		return false
	}
	_, err := hex.DecodeString(id)
	return err == nil
}

// NewAddress returns an address that nobody else has.
func NewAddress() string {
	var id [16]byte
	rand.Read(id[:])
	return prefix + hex.EncodeToString(id[:])
}

func (s *Segment) listen() (err error) {
	if s.server, err = net.ListenUnix("unix", &net.UnixAddr{Name: s.address, Net: "unix"}); err != nil {
		return fmt.Errorf("the socket for peers of this host: %w", err)
	}
	asking := make(chan struct{}, maxAsking)
	s.serving.Go(func() {
		for {
			c, err := s.server.AcceptUnix()
			if err != nil {
				return // closed
			}
			asking <- struct{}{}
			s.serving.Go(func() {
				defer func() { c.Close(); <-asking }()
				s.answer(c)
			})
		}
	})
	return nil
}

// answer serves one request. Errors are the peer's to see: it gets no file.
func (s *Segment) answer(c *net.UnixConn) {
	if !sameUser(c) {
		return
	}
	c.SetDeadline(time.Now().Add(askTimeout))
	var ask [askBytes]byte
	if n, err := c.Read(ask[:]); err != nil || n != askBytes {
		return
	}
	generation := binary.LittleEndian.Uint64(ask[8:])
	var files []int
	switch string(ask[:8]) {
	case askSegment:
		files = []int{s.fd, s.bellFD}
	case askSum:
		c.SetDeadline(time.Time{})
		fd, ok := s.awaitSum(c, generation)
		if !ok {
			return
		}
		c.SetDeadline(time.Now().Add(askTimeout))
		files = []int{fd}
	default:
		return
	}
	c.WriteMsgUnix([]byte{1}, unix.UnixRights(files...), nil)
}

// awaitSum waits until the sum of a generation is there, or the peer has gone.
func (s *Segment) awaitSum(c *net.UnixConn, generation uint64) (int, bool) {
	gone := make(chan struct{})
	s.serving.Go(func() {
		defer close(gone)
		c.Read(make([]byte, 1)) // it says nothing more: this ends with the connection
	})
	for {
		s.mu.Lock()
		t, more, closed := s.sums[generation], s.more, s.closed
		s.mu.Unlock()
		switch {
		case closed:
			c.SetReadDeadline(time.Now())
			return 0, false
		case t != nil:
			c.SetReadDeadline(time.Now())
			<-gone
			return t.fd, true
		}
		select {
		case <-more:
		case <-gone:
			return 0, false
		}
	}
}

// sameUser says whether the process at the other end runs as this user.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	same := false
	raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		same = err == nil && int(cred.Uid) == os.Getuid()
	})
	return same
}

// ask gets n files from the segment at an address.
func ask(ctx context.Context, address, what string, generation uint64, n int) ([]int, error) {
	if !validAddress(address) {
		return nil, fmt.Errorf("%q is no address of shared memory", address)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
	if err != nil {
		return nil, fmt.Errorf("its socket cannot be reached from here: %w", err)
	}
	c := conn.(*net.UnixConn)
	defer c.Close()
	if !sameUser(c) {
		return nil, errors.New("it runs as another user")
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })
	defer stop()
	var req [askBytes]byte
	copy(req[:], what)
	binary.LittleEndian.PutUint64(req[8:], generation)
	if _, err := c.Write(req[:]); err != nil {
		return nil, fmt.Errorf("asking it: %w", err)
	}
	oob := make([]byte, unix.CmsgSpace(4*8))
	var one [1]byte
	_, m, _, _, err := c.ReadMsgUnix(one[:], oob)
	if err != nil && ctx.Err() != nil { // files that have come are the caller's to close, however late
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("it does not share: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil {
		return nil, fmt.Errorf("its answer: %w", err)
	}
	var files []int
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		files = append(files, fds...)
	}
	for _, fd := range files {
		unix.CloseOnExec(fd)
	}
	if len(files) != n {
		closeAll(files)
		return nil, fmt.Errorf("it answered with %d files, not %d", len(files), n)
	}
	return files, nil
}

func closeAll(files []int) {
	for _, fd := range files {
		unix.Close(fd)
	}
}
