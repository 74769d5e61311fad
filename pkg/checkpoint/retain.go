package checkpoint

import "fmt"

// Decision is what retention says of one checkpoint, and why.
type Decision struct {
	Step   uint64 `json:"step"`
	Keep   bool   `json:"keep"`
	Reason string `json:"reason"`
}

// Retain decides which checkpoints to keep: the newest keep complete ones, each
// of a step that every divides, the one committed last, and every damaged one,
// which is for people to look at. keep 0 keeps all, every 0 means no such
// steps. It is a pure function; entries are oldest first, as List returns them,
// and so are the decisions.
func Retain(entries []Entry, keep, every int) []Decision {
	complete := 0
	for _, e := range entries {
		if e.State == Complete {
			complete++
		}
	}
	out := make([]Decision, len(entries))
	left := complete // complete checkpoints from this one on
	for i, e := range entries {
		d := Decision{Step: e.Step, Keep: true}
		switch {
		case e.State != Complete:
			d.Reason = "damaged (" + e.Problem + "): left to be looked at"
		case keep <= 0:
			d.Reason = "all are kept"
		case left <= keep:
			d.Reason = fmt.Sprintf("one of the newest %d", keep)
		case e.Latest:
			d.Reason = "committed last"
		case every > 0 && e.Step%uint64(every) == 0:
			d.Reason = fmt.Sprintf("step is a multiple of %d", every)
		default:
			d.Keep = false
			d.Reason = fmt.Sprintf("%d newer ones are complete, and %d are kept", left-1, keep)
		}
		if e.State == Complete {
			left--
		}
		out[i] = d
	}
	return out
}

// Plan is Retain for what s holds. A store that cannot be listed gives an empty
// plan, which removes nothing.
func Plan(s Store, keep int) []Decision {
	entries, err := s.List()
	if err != nil {
		return nil
	}
	return Retain(entries, keep, 0)
}
