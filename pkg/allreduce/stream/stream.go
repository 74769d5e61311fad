package stream

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

const (
	// writeWait bounds a frame on its way into a connection. A peer that takes
	// nothing for so long is frozen, or its network is: what is on the way is
	// lost, and a lost frame is sent again.
	writeWait = time.Second
	// redialWait is the pause between two tries to reach a peer.
	redialWait = 500 * time.Millisecond
	// maxHandshakes bounds the connections that have not proven anything yet.
	maxHandshakes = 64
)

// Network is an allreduce.Network of direct connections.
type Network struct {
	opt    allreduce.End
	cert   tls.Certificate
	frames chan []byte
	idle   chan []byte // memory of frames that were given back
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu         sync.Mutex
	only       *allreduce.Group // whose frames they may be; nil: anybody's
	generation uint64
	secrets    map[string][]byte // by peer
	formed     chan struct{}     // closed and replaced by Form
	out        map[string]*outbound
	in         map[net.Conn]bool
	closed     bool
}

// outbound is the connection to one peer, in one generation.
type outbound struct {
	peer, address string
	ctx           context.Context
	cancel        context.CancelFunc
	dialled       chan struct{} // closed when the first try is over

	mu   sync.Mutex // of one frame at a time
	conn net.Conn   // nil: none
	head [4]byte
	vec  net.Buffers
	bufs [2][]byte // of vec
}

var (
	_ allreduce.HostNetwork = (*Network)(nil)
	_ allreduce.Doorkeeper  = (*Network)(nil)
)

// New opens a member's end. Until Form all goes over the fallback. On an error
// the listener and the fallback stay the caller's.
func New(o allreduce.End) (*Network, error) {
	if len(o.Member) > maxName {
		return nil, fmt.Errorf("a member's name of %d bytes: want at most %d", len(o.Member), maxName)
	}
	n := &Network{opt: o, frames: make(chan []byte, 16), idle: make(chan []byte, 32), formed: make(chan struct{}), out: map[string]*outbound{}, in: map[net.Conn]bool{}}
	if o.Encrypt {
		var err error
		if n.cert, err = certificate(); err != nil {
			return nil, fmt.Errorf("direct connections: %w", err)
		}
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.work.Go(n.accept)
	n.work.Go(n.forward)
	return n, nil
}

// forward passes on what comes over the fallback.
func (n *Network) forward() {
	for {
		select {
		case f, ok := <-n.opt.Fallback.Frames():
			if !ok || !n.pass(f) {
				return
			}
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Network) pass(f []byte) bool {
	select {
	case n.frames <- f:
		return true
	case <-n.ctx.Done():
		return false
	}
}

// Form begins a generation: see allreduce.HostNetwork. It ends the connections of the
// one before, and dials peers.
func (n *Network) Form(ctx context.Context, generation uint64, peers map[string]allreduce.Peer) (unreached map[string]error) {
	n.mu.Lock()
	old := n.out
	n.generation, n.secrets, n.out = generation, map[string][]byte{}, map[string]*outbound{}
	for c := range n.in {
		c.Close()
	}
	for peer, p := range peers {
		n.secrets[peer] = p.Secret
		if p.Address == "" {
			continue
		}
		o := &outbound{peer: peer, address: p.Address, dialled: make(chan struct{})}
		o.ctx, o.cancel = context.WithCancel(n.ctx)
		n.out[peer] = o
	}
	out := n.out
	if !n.closed {
		close(n.formed)
		n.formed = make(chan struct{})
	}
	n.mu.Unlock()
	for _, o := range old {
		o.end()
	}
	errs := map[string]*error{}
	for peer, o := range out {
		err := new(error)
		errs[peer] = err
		n.work.Go(func() { n.keep(o, generation, peers[peer].Secret, err) })
	}
	unreached = map[string]error{}
	for peer, o := range out {
		select {
		case <-o.dialled:
			if *errs[peer] != nil {
				unreached[peer] = *errs[peer]
			}
		case <-ctx.Done():
			return unreached
		}
	}
	return unreached
}

// keep dials a peer, again where that fails or the connection breaks, until the
// generation ends. first is the first try's error.
func (n *Network) keep(o *outbound, generation uint64, secret []byte, first *error) {
	for try := 0; o.ctx.Err() == nil; try++ {
		c, err := n.dial(o, generation, secret)
		if err == nil {
			o.set(c)
			if try > 0 {
				n.event("the direct connection to %s at %s is there", o.peer, o.address)
			}
		}
		if try == 0 {
			*first = err
			close(o.dialled)
		}
		if err == nil {
			io.Copy(io.Discard, c) // nothing is said on it: this ends with the connection
			o.drop(c)
			if o.ctx.Err() == nil {
				n.event("the direct connection to %s at %s is lost: over NATS until it is back", o.peer, o.address)
			}
		}
		select {
		case <-time.After(redialWait):
		case <-o.ctx.Done():
		}
	}
	select {
	case <-o.dialled:
	default:
		*first = context.Cause(o.ctx)
		close(o.dialled)
	}
}

func (n *Network) dial(o *outbound, generation uint64, secret []byte) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(o.ctx, handshakeWait)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", o.address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	c, binding := raw, []byte(nil)
	if n.opt.Encrypt {
		if c, binding, err = encrypt(raw, n.cert, true); err != nil {
			raw.Close()
			return nil, err
		}
	}
	err = introduce(c, hello{generation: generation, from: n.opt.Member, to: o.peer}, secret, binding)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (o *outbound) set(c net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conn = c
	if o.ctx.Err() != nil {
		c.Close()
	}
}

func (o *outbound) drop(c net.Conn) {
	c.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == c {
		o.conn = nil
	}
}

// end ends the connection for good.
func (o *outbound) end() {
	o.cancel()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn != nil {
		o.conn.Close()
	}
}

// accept lets peers in.
func (n *Network) accept() {
	slots := make(chan struct{}, maxHandshakes)
	for {
		c, err := n.opt.Listener.Accept()
		if err != nil {
			if n.ctx.Err() != nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of files: some will be closed
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		n.work.Go(func() {
			defer c.Close()
			conn, from, err := n.admit(c)
			<-slots
			if err == nil {
				n.read(conn, from)
			}
			n.mu.Lock()
			delete(n.in, c)
			n.mu.Unlock()
		})
	}
}

// admit is the handshake with a peer that has dialled.
func (n *Network) admit(raw net.Conn) (_ net.Conn, from string, _ error) {
	raw.SetDeadline(time.Now().Add(handshakeWait))
	c, binding := raw, []byte(nil)
	if n.opt.Encrypt {
		var err error
		if c, binding, err = encrypt(raw, n.cert, false); err != nil {
			return nil, "", err
		}
	}
	h, err := readHello(c)
	if err != nil {
		return nil, "", err
	}
	if h.to != n.opt.Member {
		return nil, "", errors.New("it means another member")
	}
	secret, err := n.secretOf(h.generation, h.from)
	if err != nil {
		return nil, "", err
	}
	if err := answer(c, &h, secret, binding); err != nil {
		return nil, "", err
	}
	raw.SetDeadline(time.Time{})
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.generation != h.generation {
		return nil, "", errors.New("the generation is over")
	}
	n.in[raw] = true
	return c, h.from, nil
}

// secretOf waits until this member has formed a generation that a peer has
// formed already.
func (n *Network) secretOf(generation uint64, from string) ([]byte, error) {
	late := time.NewTimer(handshakeWait)
	defer late.Stop()
	for {
		n.mu.Lock()
		g, secret, formed := n.generation, n.secrets[from], n.formed
		n.mu.Unlock()
		switch {
		case g == generation && secret != nil:
			return secret, nil
		case g == generation:
			return nil, errors.New("it is no neighbour in this generation")
		case g > generation:
			return nil, errors.New("the generation is over")
		}
		select {
		case <-formed:
		case <-late.C:
			return nil, errors.New("the generation was not formed here")
		case <-n.ctx.Done():
			return nil, allreduce.ErrNetworkClosed
		}
	}
}

// Only implements allreduce.Doorkeeper.
func (n *Network) Only(g allreduce.Group) {
	n.mu.Lock()
	n.only = &g
	n.mu.Unlock()
	if d, ok := n.opt.Fallback.(allreduce.Doorkeeper); ok {
		d.Only(g)
	}
}

// read passes on a peer's frames until its connection ends.
func (n *Network) read(c net.Conn, from string) {
	r := bufio.NewReaderSize(c, 64<<10)
	var head [4]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		size := binary.LittleEndian.Uint32(head[:])
		if size < 1 || size > allreduce.MaxFrame {
			return
		}
		f := n.buffer(int(size))
		if _, err := io.ReadFull(r, f); err != nil {
			return
		}
		n.mu.Lock()
		g := n.only
		n.mu.Unlock()
		if g != nil && !g.Sent(f, []byte(from)) {
			n.event("worker %s sends frames of the ring in another one's name: its direct connection is closed", from)
			return
		}
		if !n.pass(f) {
			return
		}
	}
}

// buffer returns memory for a frame.
func (n *Network) buffer(size int) []byte {
	select {
	case b := <-n.idle:
		if cap(b) >= size {
			return b[:size]
		}
	default:
	}
	return make([]byte, size)
}

// Release gives the memory of a frame back, once.
func (n *Network) Release(frame []byte) {
	select {
	case n.idle <- frame:
	default:
	}
}

func (n *Network) event(f string, args ...any) {
	if n.opt.Event != nil {
		n.opt.Event(fmt.Sprintf(f, args...))
	}
}

// Send implements allreduce.Network.
func (n *Network) Send(ctx context.Context, peer string, frame []byte) error {
	n.mu.Lock()
	o, closed := n.out[peer], n.closed
	n.mu.Unlock()
	if closed {
		return fmt.Errorf("frame to %s: %w", peer, allreduce.ErrNetworkClosed)
	}
	if o != nil {
		if sent, err := o.send(ctx, frame); sent || err != nil {
			return err
		}
	}
	return n.opt.Fallback.Send(ctx, peer, frame)
}

// send writes a frame, if there is a connection. One that is not written whole
// ends the connection: the peer could not find the next frame.
func (o *outbound) send(ctx context.Context, frame []byte) (sent bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.conn
	if c == nil {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, fmt.Errorf("frame to %s: %w", o.peer, context.Cause(ctx))
	}
	c.SetWriteDeadline(time.Now().Add(writeWait))
	binary.LittleEndian.PutUint32(o.head[:], uint32(len(frame)))
	o.bufs = [2][]byte{o.head[:], frame}
	o.vec = o.bufs[:]
	if _, err := o.vec.WriteTo(c); err != nil {
		c.Close()
		o.conn = nil
		return false, fmt.Errorf("frame to %s at %s: %w", o.peer, o.address, err)
	}
	o.bufs = [2][]byte{}
	return true, nil
}

// Frames implements allreduce.Network.
func (n *Network) Frames() <-chan []byte { return n.frames }

// Close implements allreduce.Network, and closes the fallback.
func (n *Network) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	out := n.out
	for c := range n.in {
		c.Close()
	}
	n.mu.Unlock()
	n.cancel()
	n.opt.Listener.Close()
	for _, o := range out {
		o.end()
	}
	err := n.opt.Fallback.Close()
	n.work.Wait()
	close(n.frames)
	return err
}
