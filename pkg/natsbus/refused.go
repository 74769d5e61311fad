package natsbus

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// refusals tell a server that takes these credentials no more from one that refuses them
// for a moment, since it has just begun and has yet to read who may come.
type refusals struct {
	since time.Time // of the first one after the last connection that was made
	n     int
}

const (
	refusedFor   = 5 * time.Second
	refusedLeast = 3
)

// add counts one. first: there was none before it; final: no more of them are waited for.
func (r *refusals) add(now time.Time) (first, final bool) {
	if r.n++; r.n == 1 {
		r.since = now
	}
	return r.n == 1, r.n >= refusedLeast && now.Sub(r.since) >= refusedFor
}

// refusal says of an error that it is the server's, of the credentials.
func refusal(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}

// refused is told that a connection was not made anew, or is ended, for the credentials. It
// returns whether that is for good: the Conn can never do again what it is for then.
func (c *Conn) refused(kind, where string, err error) bool {
	if c.closing.Load() || c.Err() != nil {
		return true
	}
	now := time.Now()
	c.telling.Lock()
	first, final := c.denials.add(now)
	c.telling.Unlock()
	why := fmt.Errorf("NATS server at %s: %w", where, hopeless(err, c.creds))
	if k := c.creds.Key; final || k != nil && k.ended(now) {
		c.fail(why)
		return true
	}
	if first {
		c.event("%s connection: %v: tried again for %v", kind, why, refusedFor)
	}
	return false
}

// admitted is told of a connection that was made, or that there is no server to refuse one.
func (c *Conn) admitted() {
	c.telling.Lock()
	c.denials = refusals{}
	c.telling.Unlock()
}

// ended says of a key that its time is over.
func (k Key) ended(now time.Time) bool { return !k.Until.IsZero() && !now.Before(k.Until) }
