package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/coder/websocket"

	"github.com/vlaring/vlaring/pkg/trained"
)

// client is one connection.
type client struct {
	s        *Server
	addr     string
	conn     *websocket.Conn
	session  session
	message  bytes.Buffer  // the last
	previous time.Duration // see told
	last     time.Time     // of the last question's beginning
}

// talk greets the client and answers it until either ends.
func (c *client) talk(conn *websocket.Conn) {
	c.s.mu.Lock()
	c.conn = conn
	c.s.mu.Unlock()
	defer conn.CloseNow()
	conn.SetReadLimit(c.s.o.Message)
	c.s.o.Log("%s: connected", c.addr)
	var err error
	if c.session, err = c.s.speaks.begin(c.s); err != nil {
		conn.Close(websocket.StatusInternalError, "see the server's log")
	} else if hello := c.session.greeting(); hello != nil {
		err = c.write(websocket.MessageBinary, hello)
	}
	for err == nil {
		if !c.s.busy(c, false) {
			conn.Close(websocket.StatusGoingAway, goingAway)
			return
		}
		var b []byte
		var kind websocket.MessageType
		if kind, b, err = c.next(); err != nil {
			break
		}
		if !c.s.busy(c, true) {
			conn.Close(websocket.StatusGoingAway, goingAway)
			return
		}
		began := time.Now()
		var message []byte
		if message, err = c.respond(kind, b, began); err != nil {
			err = c.fail(err)
		} else if message != nil {
			err = c.write(websocket.MessageBinary, message)
		}
		c.previous = time.Since(began)
	}
	switch code := websocket.CloseStatus(err); {
	case errors.Is(err, errTold):
		conn.Close(websocket.StatusInternalError, "the error is in the message before")
	case code == websocket.StatusNormalClosure || code == websocket.StatusGoingAway || code == websocket.StatusNoStatusRcvd || errors.Is(err, io.EOF):
		c.s.o.Log("%s: left", c.addr)
	default:
		c.s.o.Log("%s: lost: %v", c.addr, err)
	}
}

// errTold ends a connection whose client has been told why.
var errTold = errors.New("the client has been told")

// fail tells the client what went wrong with its message. Its error is that the
// connection ends.
func (c *client) fail(wrong error) error {
	c.s.count.failed.Add(1)
	c.s.o.Log("%s: %v", c.addr, wrong)
	kind, message, open := c.session.fail(wrong)
	if err := c.write(kind, message); err != nil {
		return err
	}
	if !open {
		return errTold
	}
	return nil
}

// respond answers one message; nil: it wants no answer.
func (c *client) respond(kind websocket.MessageType, b []byte, began time.Time) ([]byte, error) {
	if kind != websocket.MessageBinary {
		return nil, errors.New("a text message; want a binary one, of msgpack")
	}
	h, err := c.session.hear(b)
	if h.news != "" {
		c.s.o.Log("%s: %s", c.addr, h.news)
	}
	if err != nil || h.ask == nil {
		return h.back, err
	}
	q, notes, err := c.s.policy.Read(h.ask)
	if err != nil {
		return nil, err
	}
	chunk, err := c.ask(q)
	if err != nil {
		return nil, err
	}
	return c.session.tell(told{chunk, notes, time.Since(began), c.previous})
}

// ask waits for an answer.
func (c *client) ask(q *trained.Question) (trained.Chunk, error) {
	if rate := c.s.o.Rate; rate > 0 { // a client that asks more often waits
		turn := time.NewTimer(time.Until(c.last.Add(time.Duration(float64(time.Second) / rate))))
		defer turn.Stop()
		select {
		case <-turn.C:
		case <-c.s.life.Done():
			return nil, errors.New(goingAway)
		}
		c.last = time.Now()
	}
	gone, cancel := context.WithTimeout(c.s.life, c.s.o.Wait)
	defer cancel()
	to := make(chan answer, 1)
	select {
	case c.s.asks <- ask{q, gone, to}:
	case <-gone.Done():
	}
	select {
	case a := <-to:
		return a.chunk, a.err
	case <-gone.Done():
		if c.s.life.Err() != nil {
			return nil, errors.New(goingAway)
		}
		return nil, fmt.Errorf("no answer within %v: the server has more clients than it can answer", c.s.o.Wait)
	}
}

// keptMessage bounds the memory that a client keeps for its next message.
const keptMessage = 1 << 20

// next reads a message: it may be long in coming, but not in passing. It is valid until
// the next, and nothing that is decoded from it shares its memory.
func (c *client) next() (websocket.MessageType, []byte, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	limit := time.AfterFunc(c.s.o.Idle, func() { cancel(fmt.Errorf("no message within %v", c.s.o.Idle)) })
	defer limit.Stop()
	kind, r, err := c.conn.Reader(ctx)
	if err != nil {
		return 0, nil, because(ctx, err)
	}
	limit.Stop()
	late := time.AfterFunc(c.s.o.Transfer, func() { cancel(fmt.Errorf("a message took longer than %v", c.s.o.Transfer)) })
	defer late.Stop()
	if c.message.Cap() > keptMessage {
		c.message = bytes.Buffer{}
	}
	c.message.Reset()
	_, err = c.message.ReadFrom(r)
	return kind, c.message.Bytes(), because(ctx, err)
}

// because is why ctx was ended, where that is what err comes from.
func because(ctx context.Context, err error) error {
	if why := context.Cause(ctx); err != nil && why != nil {
		return why
	}
	return err
}

func (c *client) write(kind websocket.MessageType, b []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.s.o.Transfer)
	defer cancel()
	return c.conn.Write(ctx, kind, b)
}
