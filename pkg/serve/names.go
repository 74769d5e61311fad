package serve

import (
	"strings"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/trained"
)

// names say what the values of clients are called by the policy.
type names struct {
	card    trained.Card
	renamed []renaming
}

// renaming is --rename FROM=TO.
type renaming struct{ from, to string }

// namesFor checks renamings FROM=TO against the card.
func namesFor(card trained.Card, list []string) (names, error) {
	n := names{card: card}
	for _, arg := range list {
		from, to, ok := strings.Cut(arg, "=")
		if !ok || from == "" || to == "" {
			return n, usage.Errorf("--rename %s: want FROM=TO: a client's name, and what the policy calls it", arg)
		}
		at := card.Features(to)
		if len(at) != 1 {
			var all []string
			for _, x := range card.Observation {
				all = append(all, x.Name)
			}
			return n, usage.Errorf("--rename %s: %s is no part of what the policy sees; want one of %s", arg, to, strings.Join(all, ", "))
		}
		for _, r := range n.renamed {
			if r.from == from {
				return n, usage.Errorf("--rename %s: %s is renamed already, to %s", arg, from, r.to)
			}
		}
		n.renamed = append(n.renamed, renaming{from, at[0]})
	}
	return n, nil
}

// called is what the policy calls a client's name: that itself where it is not
// renamed. A name is renamed by the whole of it, or by its end behind a slash or dot.
func (n names) called(name string) string {
	for _, r := range n.renamed {
		if name == r.from || strings.HasSuffix(name, "/"+r.from) || strings.HasSuffix(name, "."+r.from) {
			return r.to
		}
	}
	return name
}

// known says that the policy sees something of the name, which may have a longer one.
func (n names) known(name string) bool { return len(n.card.Features(n.called(name))) > 0 }

// shown is what a client calls the policy's part of that name: the other way round.
func (n names) shown(name string) string {
	for _, r := range n.renamed {
		if r.to == name {
			name = r.from
		}
	}
	return name[strings.LastIndexAny(name, "./")+1:]
}
