package chaos

import (
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/usage"
)

// The kinds of faults, and how often each is drawn in proportion.
const (
	killWorker      = "worker killed"
	freezeWorker    = "worker frozen"
	killCoordinator = "coordinator killed"
	restartBroker   = "broker restarted"
	joinWorker      = "worker joined"
	releaseWorker   = "worker released"
	killBoth        = "coordinator and worker killed"
	tellAll         = "all workers told to leave"
)

func shares() []share {
	return []share{{killWorker, 7}, {freezeWorker, 3}, {killCoordinator, 3}, {restartBroker, 2}, {joinWorker, 2}, {releaseWorker, 2}, {killBoth, 1}, {tellAll, 1}}
}

type share struct {
	kind  string
	times int
}

// lots are the chosen kinds, each as often as its share; all where none is chosen.
func lots(kinds []string) (l []string, err error) {
	var names []string
	for _, k := range shares() {
		names = append(names, k.kind)
		if len(kinds) == 0 || slices.Contains(kinds, k.kind) {
			l = append(l, slices.Repeat([]string{k.kind}, k.times)...)
		}
	}
	for _, k := range kinds {
		if !slices.Contains(names, k) {
			return nil, usage.Errorf("--kinds %q: want some of %s", k, strings.Join(names, ", "))
		}
	}
	return l, nil
}
