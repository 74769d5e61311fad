package natsbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// A frame that is sent while the server is away waits this long for it to come
// back: given up at once, it would wait for the ring's patience, which grows
// from try to try.
const sendWait = time.Second

// network is an allreduce.Network of raw frames, one NATS message each, over a
// connection of its own (ringlink.go). A goroutine connects, reads, and connects
// again where the connection is lost.
type network struct {
	conn    *Conn
	subject string // of what comes in
	prefix  string // of the line of what goes out, up to the peer's name
	suffix  string // behind it, up to the length
	frames  chan []byte
	pool    framePool
	opened  chan error // the first connection's fate
	ctx     context.Context
	end     context.CancelFunc
	wg      sync.WaitGroup

	only atomic.Pointer[allreduce.Group] // whose frames they may be; nil: anybody's

	mu    sync.Mutex
	liars map[string]bool // that were told of
	link  *ringLink       // nil while the server is away
	back  chan struct{}   // closed when link is set or the network has ended
	over  error           // it is closed for good
}

var _ allreduce.Doorkeeper = (*network)(nil)

// Network opens this member's end of the ring's data path. A server that is
// away is waited for in the background: the ring sends again what is lost.
func (c *Conn) Network() (allreduce.Network, error) {
	n := &network{conn: c, subject: ringSubject(c.opt.Job, c.opt.Member, "*"), prefix: "PUB vlaring." + c.opt.Job + ".ring.", suffix: "." + c.opt.Member + " ",
		frames: make(chan []byte, 16), opened: make(chan error, 1), back: make(chan struct{}), liars: map[string]bool{}}
	n.ctx, n.end = context.WithCancel(context.Background())
	if err := c.adopt(n); err != nil {
		return nil, err
	}
	n.wg.Go(n.run)
	late := time.NewTimer(subscribeWait)
	defer late.Stop()
	var err error
	select {
	case err = <-n.opened:
	case <-late.C:
		err = fmt.Errorf("no answer within %v", subscribeWait)
	}
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("connection for the ring's frames on %s: %w", n.subject, err)
	}
	return n, nil
}

// open says how the first connection went. Only the first word counts.
func (n *network) open(err error) {
	select {
	case n.opened <- err:
	default:
	}
}

// run is the goroutine.
func (n *network) run() {
	defer close(n.frames)
	for first := true; n.ctx.Err() == nil; first = false {
		link, err := n.connect(first)
		if err != nil {
			if first {
				n.open(err)
			} else {
				n.conn.gone("ring", withoutSecrets(n.conn.urls), err)
			}
			n.closed(err)
			return
		}
		if link == nil {
			n.open(nil) // the server is away
			n.pause()
			continue
		}
		if !first {
			n.conn.comes("ring", "ring connection is back, with %s", link.server)
		}
		n.conn.admitted()
		since := time.Now()
		n.set(link)
		keeper, cancel := context.WithCancel(n.ctx)
		n.wg.Go(func() { link.keep(keeper) })
		err = n.read(link)
		cancel()
		n.set(nil)
		err = link.close(err)
		if n.ctx.Err() == nil {
			n.open(nil)
			n.conn.comes("ring", "ring connection to %s lost (%v): reconnecting", link.server, err)
			n.conn.cut("ring", withoutSecrets(n.conn.urls))
		}
		if time.Since(since) < time.Second { // or it would be lost over and over
			n.pause()
		}
	}
	n.closed(allreduce.ErrNetworkClosed)
}

// pause is what lies between two tries.
func (n *network) pause() {
	t := time.NewTimer(reconnectWait + rand.N(reconnectWait/2))
	defer t.Stop()
	select {
	case <-t.C:
	case <-n.ctx.Done():
	}
}

// connect tries each server once. It returns neither a link nor an error where
// none is there, and an error where trying again is of no use. Later on only a
// server that refuses the credentials for good ends the network; whatever else is wrong
// may be mended.
func (n *network) connect(first bool) (*ringLink, error) {
	servers := ringServers(n.conn.urls, n.conn.control.ConnectedUrl(), n.conn.control.Servers())
	if moved := n.conn.moved(); moved != "" && len(servers) > 0 {
		servers = servers[:1]
		servers[0].host = moved
	}
	for _, s := range servers {
		link, err := n.conn.dialRing(n.ctx, s)
		if err == nil {
			return link, nil
		}
		if n.ctx.Err() != nil {
			return nil, nil
		}
		final := hopeless(err, n.conn.creds)
		switch {
		case first && final != nil:
			return nil, fmt.Errorf("NATS server at %s: %w", s.host, final)
		case !errors.Is(final, cluster.ErrRefused):
			n.conn.notBack("ring", withoutSecrets(n.conn.urls), err)
		case n.conn.refused("ring", withoutSecrets(n.conn.urls), err):
			return nil, err
		}
	}
	return nil, nil
}

// set says what link there is to send on.
func (n *network) set(link *ringLink) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over != nil {
		return
	}
	if n.link = link; link != nil {
		close(n.back)
	} else {
		n.back = make(chan struct{})
	}
}

func (n *network) closed(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over != nil {
		return
	}
	n.over = err
	if n.link == nil {
		close(n.back)
	}
	n.link = nil
}

// read passes on what comes until the connection is lost.
func (n *network) read(l *ringLink) error {
	defer context.AfterFunc(n.ctx, func() { l.nc.Close() })()
	if err := l.say(fmt.Sprintf("SUB %s %d\r\nPING\r\n", n.subject, ringSID)); err != nil {
		return err
	}
	told := false
	var who []byte
	for {
		v, args, err := l.in.next()
		if err != nil {
			return err
		}
		l.silent.Store(0)
		switch v {
		case verbMsg:
			from, sid, size, err := parseMsg(args)
			if err != nil {
				return err
			}
			if sid != ringSID || size < 1 || size > allreduce.MaxFrame {
				if !told {
					told = true
					n.conn.event("ring connection: a message of %d bytes on %s is no frame: dropped, as others like it will be", size, n.subject)
				}
				if err := l.in.skip(size); err != nil {
					return err
				}
				continue
			}
			who = append(who[:0], from...) // the line goes with what is read next
			frame := n.pool.get(size)
			if err := l.in.payload(frame); err != nil {
				return err
			}
			if g := n.only.Load(); g != nil && !g.Sent(frame, who) {
				n.liar(string(who), frame)
				continue
			}
			select {
			case n.frames <- frame:
			case <-n.ctx.Done():
				return context.Cause(n.ctx)
			}
		case verbPing:
			l.owed.Add(1)
			l.answer()
		case verbPong:
			n.open(nil)
		case verbErr:
			err, where := serverError(args), withoutSecrets(n.conn.urls)
			switch {
			case !errors.Is(err, nats.ErrPermissionViolation):
				n.conn.event("ring connection: %v", err)
			case strings.Contains(err.Error(), "Subscription to "): // it would never hear anything
				n.open(denied(n.conn.opt.Job, where, n.conn.creds.Key, err))
				fallthrough
			default:
				n.conn.denied(where, err)
			}
		case verbInfo:
			info, err := l.info(args)
			if err != nil {
				return err
			}
			if info.LameDuck {
				n.conn.event("ring connection: the server at %s is about to stop", l.server)
			}
		}
	}
}

// Only implements allreduce.Doorkeeper.
func (n *network) Only(g allreduce.Group) { n.only.Store(&g) }

// liar drops a frame that somebody has sent in another one's name, and says so
// once of each.
func (n *network) liar(who string, frame []byte) {
	n.pool.put(frame)
	n.mu.Lock()
	told := n.liars[who]
	if !told && len(n.liars) < maxLiars {
		n.liars[who] = true
	}
	n.mu.Unlock()
	if !told {
		n.conn.opt.Trouble(fmt.Sprintf("worker %s sends frames of the ring in another one's name: they are dropped", who))
	}
}

// maxLiars bounds who is remembered.
const maxLiars = 1024

var errSilent = errors.New("the server does not answer")

// verifyWait is how long the server may take to answer on a connection that has
// reason to be doubted.
const verifyWait = 600 * time.Millisecond

// verify closes the connection for frames, to be made anew, where the server
// does not answer on it at once.
func (n *network) verify() {
	n.mu.Lock()
	l := n.link
	n.mu.Unlock()
	if l == nil {
		return
	}
	l.silent.Add(1)
	late := time.AfterFunc(verifyWait, func() {
		if l.silent.Load() > 0 {
			l.close(errSilent)
		}
	})
	if l.say("PING\r\n") != nil {
		late.Stop()
	}
}

// keep finds out whether the server is still there.
func (l *ringLink) keep(ctx context.Context) {
	t := time.NewTicker(pingInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if l.silent.Add(1) > pingsOut {
			l.close(errSilent)
			return
		}
		if l.say("PING\r\n") != nil {
			return
		}
	}
}

// Send implements allreduce.Network. It does not notice that a peer is absent.
func (n *network) Send(ctx context.Context, peer string, frame []byte) error {
	if err := cluster.ValidName("peer", peer); err != nil {
		return err
	}
	var give <-chan time.Time
	for {
		n.mu.Lock()
		link, back, over := n.link, n.back, n.over
		n.mu.Unlock()
		switch {
		case over != nil && errors.Is(over, allreduce.ErrNetworkClosed):
			return fmt.Errorf("frame to %s: %w", peer, over)
		case n.conn.Err() != nil:
			return fmt.Errorf("frame to %s: %w (%w)", peer, n.conn.Err(), allreduce.ErrUnsendable)
		case over != nil:
			return fmt.Errorf("frame to %s: %w (%w)", peer, allreduce.ErrNetworkClosed, over)
		case ctx.Err() != nil:
			return fmt.Errorf("frame to %s: %w", peer, context.Cause(ctx))
		case link != nil:
			if most := link.maxPayload.Load(); most > 0 && int64(len(frame)) > most {
				return fmt.Errorf("%w (%w)", tooLarge(withoutSecrets(n.conn.urls), len(frame), most), allreduce.ErrUnsendable)
			}
			if err := link.publish(n.prefix, peer, n.suffix, frame); err != nil {
				return fmt.Errorf("frame to %s: %w", peer, err)
			}
			return nil
		}
		if give == nil {
			t := time.NewTimer(sendWait)
			defer t.Stop()
			give = t.C
		}
		select {
		case <-back:
		case <-give:
			return fmt.Errorf("frame to %s: the server is away for more than %v", peer, sendWait)
		case <-ctx.Done():
		}
	}
}

// Frames implements allreduce.Network.
func (n *network) Frames() <-chan []byte { return n.frames }

// Release implements allreduce.Network.
func (n *network) Release(frame []byte) { n.pool.put(frame) }

// Close implements allreduce.Network. What has not been read is dropped.
func (n *network) Close() error {
	n.closed(allreduce.ErrNetworkClosed)
	n.end()
	n.conn.release(n)
	n.wg.Wait()
	return nil
}
