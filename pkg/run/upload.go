package run

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/job"
)

// Bounds of an uploader.
const (
	uploadRetry = time.Minute      // at most, between two tries
	uploadLeave = 30 * time.Second // without a byte, when the run ends
	uploadAway  = 10 * time.Second // the same, of a store that took nothing before; at most checkpoint.wait
	uploadSay   = 10 * time.Second // between two lines of one upload
	storeAsk    = time.Minute      // for a store to answer before a run begins
)

// uploader is a mirror beside training, on a goroutine of the lowest priority. Training
// waits for none of it: what it has not done when the run ends is said, and is done by
// the next run or by a command.
type uploader struct {
	*mirror
	dir    string
	voice  voice
	retain func() // a checkpoint that was held for an upload may go
	away   time.Duration

	wake   chan struct{}
	end    chan struct{}
	done   chan struct{}
	cancel context.CancelFunc

	mu     sync.Mutex
	at     uint64    // step on its way; 0: none
	moved  time.Time // when bytes were last stored
	said   time.Time // when progress was
	failed error     // of the last pass
}

// newUploader is nil without a mirror. wait is checkpoint.wait.
func newUploader(m *mirror, dir string, v voice, wait job.Duration, retain func()) *uploader {
	if m == nil {
		return nil
	}
	u := &uploader{mirror: m, dir: dir, voice: v, retain: retain, away: min(uploadAway, time.Duration(wait)), wake: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{})}
	m.on = u.progress
	return u
}

// start begins; the store is asked on the uploader's own time.
func (u *uploader) start() {
	if u == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.cancel = cancel
	go u.run(ctx)
}

// stored says that there is a new checkpoint.
func (u *uploader) stored() {
	if u == nil {
		return
	}
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// inUse is the checkpoint that must not be removed yet, and why.
func (u *uploader) inUse(uses map[uint64]string) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.at > 0 && uses[u.at] == "" {
		uses[u.at] = "on its way to " + u.to.String()
	}
}

func (u *uploader) progress(step uint64, done, total int64) {
	u.mu.Lock()
	now := time.Now()
	u.moved = now
	say := now.Sub(u.said) >= uploadSay && done < total
	if say {
		u.said = now
	}
	u.mu.Unlock()
	if say {
		u.voice.log.Info(fmt.Sprintf("uploading step %d: %s of %s are in %s", step, plain.Bytes(done), plain.Bytes(total), u.to))
	}
}

func (u *uploader) setAt(step uint64) {
	u.mu.Lock()
	u.at, u.said, u.moved = step, time.Now(), time.Now()
	u.mu.Unlock()
}

func (u *uploader) run(ctx context.Context) {
	defer close(u.done)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its priority with it
	LowPriority()
	end := u.end
	for wait := time.Duration(0); ; {
		more, err := u.pass(ctx, u.setAt, func(step uint64, bytes int64, took time.Duration) {
			u.voice.Event("upload", fmt.Sprintf("uploaded step %d, %s in %.1f s, to %s", step, plain.Bytes(bytes), took.Seconds(), u.to),
				map[string]any{"step": step, "bytes": bytes, "seconds": took.Seconds(), "to": u.to.String()})
		})
		u.mu.Lock()
		held := u.at > 0
		u.at = 0
		u.mu.Unlock()
		if held {
			u.retain()
		}
		if ctx.Err() != nil {
			return
		}
		u.say(err, end == nil)
		var foreign *foreignError
		switch {
		case errors.As(err, &foreign):
			return
		case err == nil && more:
			wait = 0
			continue
		case err == nil && end == nil: // the run is over, and all is there
			return
		case err == nil:
			wait = 0
			select {
			case <-u.wake:
			case <-end:
				end = nil
			case <-ctx.Done():
				return
			}
			continue
		}
		wait = min(max(2*wait, time.Second), uploadRetry)
		if end == nil {
			wait = min(wait, 5*time.Second)
		}
		select {
		case <-time.After(wait):
		case <-end:
			end = nil
		case <-ctx.Done():
			return
		}
	}
}

// say says once that the store takes nothing, and once that it does again.
func (u *uploader) say(err error, over bool) {
	u.mu.Lock()
	was := u.failed
	u.failed = err
	u.mu.Unlock()
	switch {
	case over: // what is missing is said then
	case err != nil && was == nil:
		u.voice.log.Warn("no checkpoint can be uploaded now; training goes on, they are uploaded later, and this is said once", zap.Error(err))
	case err == nil && was != nil:
		u.voice.log.Info(u.to.String() + " takes checkpoints again")
	}
}

// close waits for what is on its way: as long as bytes move, and nobody asks to stop.
// What is not uploaded then is said.
func (u *uploader) close(ctx context.Context, hear *stops) {
	if u == nil || u.cancel == nil { // never started
		return
	}
	close(u.end)
	ctx, asked := hear.during(ctx)
	u.mu.Lock()
	u.moved, u.said = time.Now(), time.Now().Add(2*time.Second-uploadSay) // people wait now
	u.mu.Unlock()
	stop := ctx.Done()
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case <-u.done:
			tick.Stop()
			asked()
			u.sayMissing()
			return
		case <-stop:
			stop = nil
		case <-tick.C:
			u.mu.Lock()
			idle := time.Since(u.moved) > uploadLeave || u.failed != nil && time.Since(u.moved) > u.away
			u.mu.Unlock()
			if !idle {
				continue
			}
		}
		u.cancel()
		tick.Reset(time.Hour)
	}
}

// sayMissing says what the store lacks at the end, and what to do.
func (u *uploader) sayMissing() {
	u.cancel()
	missing, err := u.missing()
	if err != nil || len(missing) == 0 {
		return
	}
	var steps []string
	for _, e := range missing {
		steps = append(steps, fmt.Sprint(e.Step))
	}
	text := fmt.Sprintf("not uploaded to %s: the checkpoints of steps %s; what is whole there of their parts is not sent again by: coordinator checkpoint upload %s",
		u.to, plain.Few(steps, 8), plain.ShellWord(u.dir))
	u.voice.Script("not_uploaded", map[string]any{"to": u.to.String(), "steps": steps})
	if u.failed != nil {
		u.voice.log.Warn(text, zap.Error(u.failed))
		return
	}
	u.voice.log.Warn(text)
}
