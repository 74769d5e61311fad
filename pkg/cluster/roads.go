package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/allreduce"
)

// Road is what the machine has to know of a kind of cluster.road: how gradients
// travel between two ranks. Of the zero Road nothing is said: it is NATS between all.
type Road struct {
	Name   string // of the kind
	Shares bool   // ranks of one host fold in memory, where they can have it together
	Alone  bool   // and there is no other way: a worker that cannot is refused
	// Network is what carries frames to other hosts in place of NATS, which it falls
	// back on, in words and in the plural: "direct connections". Empty: NATS does.
	Network string
}

// between is what carries frames from host to host.
func (r Road) between() string {
	if r.Network == "" {
		return "nats"
	}
	return r.Network
}

// Memory says where a worker shares memory with others of its host.
type Memory struct {
	Host    string `json:"host"`    // workers that name the same host may reach each other's memory
	Address string `json:"address"` // where peers ask for it
}

// shareMemory says whether two members may go on one host of the ring.
func (m *machine) shareMemory(a, b *Member) bool {
	if !m.cfg.Road.Shares || a.unshared != "" || b.unshared != "" {
		return false
	}
	return a.Memory != nil && b.Memory != nil && a.Memory.Host == b.Memory.Host
}

// together brings members that share memory next to each other, in the order in
// which their hosts first come: only ranks that follow each other can fold
// together.
func (m *machine) together(places []place) []place {
	var out []place
	taken := make([]bool, len(places))
	for i, p := range places {
		if taken[i] {
			continue
		}
		out = append(out, p)
		for j := i + 1; j < len(places); j++ {
			if !taken[j] && m.shareMemory(m.roster.members[p.Worker], m.roster.members[places[j].Worker]) {
				taken[j] = true
				out = append(out, places[j])
			}
		}
	}
	return out
}

// hosts are the runs of ranks that share memory; nil where none do.
func (m *machine) hosts() allreduce.Hosts {
	h := allreduce.Hosts{0}
	for r := 1; r < len(m.roster.places); r++ {
		if !m.shareMemory(m.roster.members[m.roster.places[r-1].Worker], m.roster.members[m.roster.places[r].Worker]) {
			h = append(h, r)
		}
	}
	if len(h) == len(m.roster.places) {
		return nil
	}
	return append(h, len(m.roster.places))
}

// roads notes how the gradients of this generation travel, and why, where that is
// news.
func (m *machine) roads() {
	if m.cfg.Road.Name == "" || len(m.roster.places) < 2 {
		return
	}
	text := m.roadText()
	if text != m.waits.roads {
		m.waits.roads = text
		m.note("ring: %s", text)
	}
}

// roadText is for people: "shm within h1 (2 workers), nats between 2 hosts (worker
// c offers no memory to share)".
func (m *machine) roadText() string {
	road := m.cfg.Road
	var shared, why []string
	runs := len(m.roster.places)
	if h := m.start.hosts; h != nil {
		runs = len(h) - 1
		for i := range runs {
			if n := h[i+1] - h[i]; n > 1 {
				shared = append(shared, fmt.Sprintf("shm within %s (%d workers)", m.roster.members[m.roster.places[h[i]].Worker].Host, n))
			}
		}
	}
	for _, p := range m.roster.places {
		w := m.roster.members[p.Worker]
		switch {
		case !road.Shares:
		case w.unshared != "":
			why = append(why, fmt.Sprintf("worker %s cannot share memory: %s", w.Worker, w.unshared))
		case w.Memory == nil:
			why = append(why, fmt.Sprintf("worker %s offers no memory to share", w.Worker))
		}
		if road.Network != "" && w.Stream == "" {
			why = append(why, fmt.Sprintf("worker %s takes no %s: nats to it", w.Worker, road.Network))
		}
	}
	switch {
	case !road.Shares:
		shared = append(shared, fmt.Sprintf("%s between all workers", road.between()))
		why = append(why, "cluster.road is "+road.Name)
	case runs > 1:
		shared = append(shared, fmt.Sprintf("%s between %d hosts", road.between(), runs))
	}
	if len(why) > 3 {
		why = append(why[:3], fmt.Sprintf("and %d more", len(why)-3))
	}
	text := strings.Join(shared, ", ")
	if len(why) > 0 {
		text += " (" + strings.Join(why, "; ") + ")"
	}
	return text
}

// mustShare is why a worker cannot join a job whose ring is shared memory alone;
// empty: it can.
func (m *machine) mustShare(j *Join) string {
	if !m.cfg.Road.Alone {
		return ""
	}
	if j.Memory == nil {
		return fmt.Sprintf("cluster.road is %s, and it cannot share memory: set cluster.road to auto", m.cfg.Road.Name)
	}
	for _, w := range m.roster.list {
		if w.Memory != nil && w.Worker != j.Worker && w.Memory.Host != j.Memory.Host {
			return fmt.Sprintf("cluster.road is %s, and it cannot share memory with worker %s on %s: set cluster.road to auto",
				m.cfg.Road.Name, w.Worker, w.Host)
		}
	}
	return ""
}

// unshare goes on without the memory of a worker that cannot reach a peer's. The
// first time another generation is tried: the peer may be dead, which is not known
// yet.
func (m *machine) unshare(w *Member, e *Fault) {
	why := e.Error
	if w.unreached++; w.unreached < 2 {
		m.recall(fmt.Sprintf("%s cannot reach the memory of %s: %s", m.roster.named(w.Worker), m.roster.named(e.Peer), why))
		return
	}
	w.unshared = why
	if m.cfg.Road.Alone {
		m.fail(fmt.Sprintf("cluster.road is %s, but %s cannot share memory: %s", m.cfg.Road.Name, m.roster.named(w.Worker), why))
		return
	}
	m.recall(fmt.Sprintf("%s cannot share memory, its gradients go over nats: %s", m.roster.named(w.Worker), why))
}

// memories are the addresses of the ranks that share memory with rank, by rank, and
// empty for all others: an Assign must fit a message however many members there are.
func (m *machine) memories(rank int) []string {
	if m.start.hosts == nil {
		return nil
	}
	l := make([]string, len(m.roster.places))
	lo, hi := m.start.hosts.Run(rank)
	for r := lo; r < hi && hi-lo > 1; r++ {
		l[r] = m.roster.members[m.roster.places[r].Worker].Memory.Address
	}
	return l
}

// streams are where the neighbours of rank take direct connections, by rank, and
// empty for all others; and the secrets by which the two ends of each connection
// know each other. Where the road between hosts is NATS there are none.
func (m *machine) streams(rank int) (l, secrets []string) {
	if m.cfg.Road.Network == "" || len(m.roster.places) < 2 {
		return nil, nil
	}
	l, secrets = make([]string, len(m.roster.places)), make([]string, len(m.roster.places))
	for _, r := range m.neighbours(rank) {
		l[r] = m.roster.members[m.roster.places[r].Worker].Stream
		h := hmac.New(sha256.New, m.cfg.Secret)
		binary.Write(h, binary.LittleEndian, [3]uint64{m.generation, uint64(min(rank, r)), uint64(max(rank, r))})
		secrets[r] = hex.EncodeToString(h.Sum(nil))
	}
	return l, secrets
}

// neighbours are the ranks before and after rank in its ring; the first rank comes
// after the last. Where hosts share memory, the ring has one rank of each host: the
// n-th ones make a ring of their own, a lane.
func (m *machine) neighbours(rank int) []int {
	h := m.start.hosts
	if h == nil {
		n := len(m.roster.places)
		return []int{(rank + n - 1) % n, (rank + 1) % n}
	}
	n, run := len(h)-1, 0
	for h[run+1] <= rank {
		run++
	}
	var l []int
	for _, k := range []int{(run + n - 1) % n, (run + 1) % n} {
		if r := h[k] + rank - h[run]; r < h[k+1] && k != run {
			l = append(l, r)
		}
	}
	return l
}

// soundHosts says whether a ring can be made with the hosts of an assignment.
func (a *Assign) soundHosts() bool {
	if n := len(a.Streams); n > 0 && n != len(a.Group.Members) {
		return false
	}
	if a.Hosts == nil {
		return len(a.Memory) == 0
	}
	bad := func(s string) bool { return len(s) > maxAddress }
	return a.Hosts.Check(len(a.Group.Members)) == nil && len(a.Memory) == len(a.Group.Members) && !slices.ContainsFunc(a.Memory, bad)
}

// maxAddress bounds the address and the host of a Memory, in bytes.
const maxAddress = limits.Address

// check is why a Memory cannot be told to others; nil: it can.
func (m *Memory) check() error {
	if len(m.Host) > maxAddress || len(m.Address) > maxAddress || m.Host == "" || m.Address == "" {
		return fmt.Errorf("memory of %d and %d bytes of host and address", len(m.Host), len(m.Address))
	}
	return nil
}
