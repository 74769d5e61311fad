package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// Err is why the Conn can never do again what it is for, nil while it may: the
// server forbids a subject of the job, or does not take the credentials any
// more. Frames and requests fail with it from then on; what is published may
// still arrive, so that others hear of it.
func (c *Conn) Err() error {
	if c.fate.Err() == nil {
		return nil
	}
	return context.Cause(c.fate)
}

// Broken is closed when Err has something to say, or the Conn is closed.
func (c *Conn) Broken() <-chan struct{} { return c.fate.Done() }

// fail is told of what can never succeed. The first word counts.
func (c *Conn) fail(err error) {
	if c.closing.Load() || c.fate.Err() != nil {
		return
	}
	c.doom(err)
	if !errors.Is(err, cluster.ErrRefused) { // which ends its owner, by whose last word it is said
		c.opt.Trouble(err.Error())
	}
}

// denied is told that the server forbids a subject. Only the job's own ones are
// of interest: an answer may be wanted on any other, by anyone.
func (c *Conn) denied(where string, err error) {
	if own := subjects(c.opt.Job); len(subjectOf(err)) < len(own) || subjectOf(err)[1:len(own)] != own[:len(own)-1] {
		c.event("%v", err)
		return
	}
	if c.creds.Key != nil && lateAnswer(c.opt.Job, err) {
		c.event("the NATS server at %s does not pass an answer to %s on: it knows of no such question; it was asked before this server came, or more than %v ago", where, subjectOf(err), answerWait)
		return
	}
	c.fail(denied(c.opt.Job, where, c.creds.Key, err))
}

// lateAnswer says that what a server forbids the holder of a key is an answer. It may answer
// what it has been asked, so this says nothing of its permissions: a broker that died
// has taken along who had been asked, and nats.go sends to the next one what it held.
func lateAnswer(job string, err error) bool {
	return strings.Contains(err.Error(), "Publish to ") && strings.HasPrefix(subjectOf(err), `"`+inboxPrefix(job, ""))
}

// gone is told that a connection was given up.
func (c *Conn) gone(kind, where string, err error) {
	if err == nil {
		err = nats.ErrConnectionClosed
	}
	if final := hopeless(err, c.creds); final != nil {
		err = final
	}
	c.fail(fmt.Errorf("%s connection to %s is closed for good: %w", kind, where, err))
}

// notBack is told of each try to connect anew that failed, but not for the credentials. What
// somebody has to mend is said once, until it is another: nothing else would tell.
func (c *Conn) notBack(kind, where string, err error) {
	text := ""
	if final := hopeless(err, c.creds); final != nil {
		text = fmt.Sprintf("NATS server at %s: %v", where, final)
	} else if full(err) {
		text = obstacle(where, err)
	}
	c.telling.Lock()
	news := text != "" && text != c.told
	if news {
		c.told = text
	}
	c.telling.Unlock()
	if news && !c.closing.Load() {
		c.opt.Trouble(fmt.Sprintf("%s connection: %s: trying again", kind, text))
	}
}

// cut is told that a connection for long messages was lost. It counts where the control
// connection stays: a server that stops takes both.
func (c *Conn) cut(kind, where string) {
	if c.closing.Load() || c.control == nil || !c.control.IsConnected() {
		return
	}
	before := c.control.Stats().Reconnects
	time.AfterFunc(cutSettles, func() {
		if c.closing.Load() || !c.control.IsConnected() || c.control.Stats().Reconnects != before {
			return
		}
		c.telling.Lock()
		many := c.cuts.add(time.Now())
		c.telling.Unlock()
		if many {
			or := ""
			if kind == "ring" {
				or = ", or set cluster.window_bytes below a quarter of its max_pending"
			}
			c.opt.Trouble(fmt.Sprintf("the NATS server at %s has cut the %s connection of %s %d times within %v and lets the one for control stand: it takes it for a slow consumer, and each cut costs time; raise the server's max_pending (default 64MB) and write_deadline (default 10s)%s; further cuts are not told of",
				where, kind, c.opt.Member, cutsMany, cutsWithin, or))
		}
	})
}

// comes tells of a connection that is lost or back, unless that is told of
// already as one of many times.
func (c *Conn) comes(kind, format string, v ...any) {
	c.telling.Lock()
	known := kind != "control" && c.cuts.known(time.Now())
	c.telling.Unlock()
	if !known {
		c.event(format, v...)
	}
}

// mayUse asks the server for what the member will have to do, so that what is
// forbidden is said before the job begins: answers come to its inbox, and it
// speaks to others, on subjects that nobody can have.
func (c *Conn) mayUse(ctx context.Context) error {
	where := withoutSecrets(c.urls)
	inbox := c.inbox() + ".check"
	sub, err := c.control.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("NATS server at %s: %w", where, err)
	}
	defer sub.Unsubscribe()
	var nobody []string
	switch {
	case c.opt.Member == cluster.CoordinatorName:
		nobody = []string{"vlaring." + c.opt.Job + ".worker." + cluster.CoordinatorName}
	case c.inbox() == askedPrefix(c.opt.Job, c.opt.Member):
	default:
		nobody = []string{ringSubject(c.opt.Job, cluster.CoordinatorName, c.opt.Member)}
	}
	for _, subject := range nobody {
		if err := c.control.Publish(subject, nil); err != nil {
			return fmt.Errorf("NATS server at %s: %w", where, err)
		}
	}
	flush, cancel := context.WithTimeout(ctx, subscribeWait)
	defer cancel()
	if err := c.control.FlushWithContext(flush); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("NATS server at %s does not answer: %w", where, err)
	}
	if err := c.control.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		c.closing.Store(true) // it is said by the error
		return denied(c.opt.Job, where, c.creds.Key, err)
	}
	return nil
}
