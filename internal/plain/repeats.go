package plain

import (
	"fmt"
	"time"
)

// Repeats keeps lines out of a log that come again and again: of each kind the first is
// told, and of the others how many there were, a minute later at first and then after
// twice as long each time, up to an hour. The zero value is ready. It is not safe for
// concurrent use.
type Repeats struct{ kinds map[string]*repeated }

// repeated is what is known of a kind of line.
type repeated struct {
	untold int
	next   time.Time // when the next one is told
	wait   time.Duration
}

const (
	repeatFirst = time.Minute
	repeatMost  = time.Hour
	// repeatKinds bounds the kinds that are known: kinds beyond share one, since whoever
	// is counted may have any number of names.
	repeatKinds = 256
)

// Tell returns text as it is to be told now, empty where it is only counted. What is of the
// same kind is the same line, though its words may differ.
func (r *Repeats) Tell(now time.Time, kind, text string) string {
	k := r.kinds[kind]
	if k == nil && len(r.kinds) >= repeatKinds {
		for name, old := range r.kinds {
			if now.Sub(old.next) > repeatMost {
				delete(r.kinds, name)
			}
		}
		if len(r.kinds) >= repeatKinds {
			kind = ""
			k = r.kinds[kind]
		}
	}
	if k == nil {
		k = &repeated{wait: repeatFirst}
		if r.kinds == nil {
			r.kinds = map[string]*repeated{}
		}
		r.kinds[kind] = k
		k.next = now.Add(k.wait)
		return text
	}
	if now.Before(k.next) {
		k.untold++
		return ""
	}
	k.wait = min(2*k.wait, repeatMost)
	k.next = now.Add(k.wait)
	if k.untold > 0 {
		text = fmt.Sprintf("%s (and %d times more since this was said last)", text, k.untold)
	}
	k.untold = 0
	return text
}
