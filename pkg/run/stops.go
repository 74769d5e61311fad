package run

import (
	"context"
	"errors"
	"fmt"
)

// stops are the requests to stop a run, each with its reason.
type stops struct{ reasons chan string }

// ask asks once more; nobody needs to hear more than two.
func (s *stops) ask(reason string) {
	select {
	case s.reasons <- reason:
	default:
	}
}

// during is a context that ends when somebody asks the run to stop. The
// function that comes with it ends that, and returns the reason if so.
func (s *stops) during(ctx context.Context) (context.Context, func() error) {
	ctx, cancel := context.WithCancel(ctx)
	enough, ended := make(chan struct{}), make(chan struct{})
	var reason error
	go func() {
		defer close(ended)
		select {
		case text := <-s.reasons:
			reason = errors.New(text)
			cancel()
		case <-enough:
		}
	}()
	return ctx, func() error {
		close(enough)
		<-ended
		cancel()
		return reason
	}
}

// stopped is the error of a run that was asked to stop before it had led a step.
func (b *beginning) stopped(reason error, during string) error {
	if b.from == nil {
		return fmt.Errorf("%w %s; no step was committed, so there is nothing to resume", reason, during)
	}
	return ResumableError{fmt.Sprintf("%v %s, at step %d\nresume with: %s", reason, during, b.start, b.opt.Again)}
}
