package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
)

// Sent is what a sink was told by Send. What it had already is counted, too, where the
// sink itself knows what it has.
type Sent struct {
	Sink     string `json:"sink"`
	Steps    int    `json:"steps"`
	Measured int    `json:"measured"`
	Step     uint64 `json:"step"` // the newest that it has now
}

// sendTries are how often one part is tried, with sendPause between, and twice as long each time.
const (
	sendTries = 5
	sendPause = 60 * time.Millisecond
)

// Send passes on to sinks what the run in dir has written, as they would have been told
// beside it: what they have already is not there twice, and a run that goes on later
// goes on there. The run must not go on meanwhile. What is wrong with dir is a
// usage.Error.
func Send(ctx context.Context, dir string, kinds job.Kinds, version string, to []Sink) (sent []Sent, err error) {
	o, err := ReadOrigin(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage.Errorf("%s is no run directory: it has no %s; give one such as runs/NAME (coordinator runs ls lists them)", dir, OriginFile)
	}
	if err != nil {
		return nil, err
	}
	lock, err := checkpoint.LockRunDir(dir)
	if held := new(checkpoint.LockedError); errors.As(err, &held) {
		return nil, usage.Errorf("%w\na run that goes on is sent by itself: stop it, and go on with train … --resume --track", err)
	}
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	b, err := regular.Read(filepath.Join(dir, JobCopy), 1<<20)
	if err != nil {
		return nil, err
	}
	about := About{Dir: dir, Version: version}
	if about.Job, err = kinds.Parse(filepath.Join(dir, JobCopy), b, nil); err != nil {
		return nil, err
	}
	last, err := LastMetrics(dir, 1)
	if err != nil {
		return nil, err
	}
	if len(last) == 0 {
		return nil, usage.Errorf("%s has no step in its %s: there is nothing to send", dir, MetricsFile)
	}
	about.Step = last[0].Step
	for _, sink := range to {
		s, err := send(ctx, newFollower(sink, about, voice{}), o.State == cluster.Done.String())
		if err != nil {
			has := "nothing was sent"
			if s.Steps > 0 {
				has = fmt.Sprintf("it has what was sent, up to step %d", s.Step)
			}
			return sent, fmt.Errorf("%s: %w\n%s: give the command again, and nothing will be there twice", sink, err, has)
		}
		sent = append(sent, s)
	}
	return sent, nil
}

func send(ctx context.Context, f *follower, finished bool) (s Sent, err error) {
	s.Sink = f.sink.String()
	again := func(what func() error) error {
		for try := 1; ; try++ {
			err := what()
			if err == nil || try == sendTries || ctx.Err() != nil {
				return err
			}
			select {
			case <-time.After(sendPause << try):
			case <-ctx.Done():
			}
		}
	}
	f.put = func(r Records) { s.Steps, s.Measured = s.Steps+len(r.Steps), s.Measured+len(r.Measured) }
	for more := true; more; {
		if err := again(func() (err error) { more, err = f.pass(ctx); return err }); err != nil {
			s.Step = f.has.Step
			return s, err
		}
	}
	s.Step = f.has.Step
	return s, again(func() error { return f.sink.Close(ctx, finished) })
}

// SentText says what was sent, a line a sink.
func SentText(sent []Sent) string {
	text := ""
	for _, s := range sent {
		text += fmt.Sprintf("%s: told of %d steps and %d measurements, and has all up to step %d\n", s.Sink, s.Steps, s.Measured, s.Step)
	}
	return text
}
