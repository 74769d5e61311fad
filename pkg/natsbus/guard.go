package natsbus

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// guard lets in whoever proves to have the token or a key that was made from it
// (proof.go, key.go), or shows the token, and lets nobody say more than is its own
// to say (permissions.go). Where a network carries the words they must be encrypted.
//
// The token is all roles: who has it may say anything in anyone's name. A key is
// one role.
type guard struct {
	token   string
	hash    [sha256.Size]byte
	key     nkeys.KeyPair // of the token
	name    string        // its public half
	job     string        // whose subjects alone there are; empty: any
	perms   *server.Permissions
	revoked revocations
	mu      sync.Mutex
	inside  map[uint64]entry // connections that were let in
	holders map[[2]string]int
	banned  map[string]bool         // workers that were put out
	end     func(ids []uint64)      // closes connections; set by the broker
	tell    func(kind, text string) // of who is refused; what is of a kind is the same news
}

var _ server.Authentication = (*guard)(nil)

// entry is a connection that was let in.
type entry struct {
	key Key // zero: the token's
	at  time.Time
}

// holderConns bounds the connections of one key: a member has limits.Connections,
// and old ones that the server has yet to miss. The oldest makes room for another: to refuse
// that one would keep a member out that has lost its own, and end it.
const holderConns = 32

// maxStrangersBanned bounds the names that are kept out though nobody has come by a key of
// theirs: who has the token may speak in any.
const maxStrangersBanned = limits.Workers

func newGuard(o BrokerOptions) (*guard, error) {
	g := &guard{token: o.Token, hash: sha256.Sum256([]byte(o.Token)), job: o.Job, revoked: revocations{path: o.Revoked},
		inside: map[uint64]entry{}, holders: map[[2]string]int{}, banned: map[string]bool{}, end: func([]uint64) {}, tell: func(string, string) {}}
	var err error
	if g.key, err = tokenKey(o.Token); err != nil {
		return nil, err
	}
	if g.name, err = g.key.PublicKey(); err != nil {
		return nil, err
	}
	if err := g.revoked.problem(); err != nil {
		return nil, err
	}
	if o.Job != "" {
		if err := cluster.ValidName("job name", o.Job); err != nil {
			return nil, err
		}
		may := func() *server.SubjectPermission {
			return &server.SubjectPermission{Allow: []string{subjects(o.Job)}}
		}
		g.perms = &server.Permissions{Publish: may(), Subscribe: may()}
	}
	return g, nil
}

// Check implements server.Authentication for clients.
func (g *guard) Check(c server.ClientAuthentication) bool {
	kind, why := g.admit(c)
	if why != "" {
		from := "this process"
		if a, ok := c.RemoteAddress().(*net.TCPAddr); ok {
			from = a.IP.String()
		}
		g.tell(cmp.Or(kind, from), fmt.Sprintf("refused a connection from %s: %s", from, why))
	}
	return why == ""
}

// admit lets a connection in, or says why not. kind is whose it is, where that is proved.
func (g *guard) admit(c server.ClientAuthentication) (kind, why string) {
	if c.GetTLSConnectionState() == nil && !sameMachine(c.RemoteAddress()) {
		return "", "it comes over a network and is not encrypted"
	}
	const unproven = "it does not prove to have the job's token, or a key that was made from it"
	o := c.GetOpts()
	switch {
	case o.Nkey == "": // hashes make the comparison take the same time for every token, of whatever length
		shown := sha256.Sum256([]byte(o.Token))
		if subtle.ConstantTimeCompare(shown[:], g.hash[:]) != 1 {
			return "", unproven
		}
	case o.Nkey == g.name:
		if !proves(g.key, c, o) {
			return "", unproven
		}
	default:
		k, ok := g.claimed(c, o)
		if !ok {
			return "", unproven
		}
		if why := g.over(k); why != "" {
			return k.text(), fmt.Sprintf("the key of %s %s %s", k.Role, k.ID, why)
		}
		g.enter(c.GetID(), k)
		c.RegisterUser(&server.User{Username: k.text(), Permissions: permissions(k.Job, k.Role, k.ID).server(), ConnectionDeadline: k.Until})
		return "", ""
	}
	g.enter(c.GetID(), Key{})
	c.RegisterUser(&server.User{Username: "member", Permissions: g.perms})
	return "", ""
}

// claimed makes the key that the other end claims to have, and looks whether it has it.
func (g *guard) claimed(c server.ClientAuthentication, o *server.ClientOpts) (Key, bool) {
	claims := o.Name
	if i := strings.LastIndex(claims, keyIs); i >= 0 {
		claims = claims[i+len(keyIs):]
	}
	k, ok := parseClaims(claims)
	if !ok || g.job != "" && k.Job != g.job {
		return k, false
	}
	k.seed = derive(g.token, k.claims())
	pair, err := k.pair()
	return k, err == nil && o.Nkey == k.Public() && proves(pair, c, o)
}

// over is why a key does not count any more; empty: it does.
func (g *guard) over(k Key) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case k.ended(time.Now()):
		return "was good until " + k.Until.Format(time.RFC3339)
	case g.revoked.has(k):
		return "is revoked"
	case g.out(k):
		return "does not count any more: the worker was put out"
	}
	return ""
}

// out says whether a key is that of a worker that was put out. The caller holds g.mu.
func (g *guard) out(k Key) bool { return k.Role == RoleWorker && g.banned[k.ID] }

// text is whose a key is.
func (k Key) text() string { return string(k.Role) + " " + k.ID }

func proves(key nkeys.KeyPair, c server.ClientAuthentication, o *server.ClientOpts) bool {
	sig, err := base64.RawURLEncoding.DecodeString(o.Sig)
	return err == nil && len(c.GetNonce()) > 0 && key.Verify(c.GetNonce(), sig) == nil
}

// sameMachine says whether a connection has not come over a network.
func sameMachine(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return !ok || t.IP.IsLoopback() // a pipe of this process has no address
}

func (k Key) holder() [2]string { return [2]string{string(k.Role), k.ID} }

func (g *guard) enter(id uint64, k Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if k.Role != "" {
		if g.holders[k.holder()] >= holderConns {
			g.makeRoom(k)
		}
		g.holders[k.holder()]++
	}
	g.inside[id] = entry{k, time.Now()}
}

// makeRoom ends the oldest connection of a key's holder. The caller holds g.mu.
func (g *guard) makeRoom(k Key) {
	var oldest uint64
	for id, e := range g.inside {
		if was, ok := g.inside[oldest]; e.key.Role != "" && e.key.holder() == k.holder() && (!ok || e.at.Before(was.at)) {
			oldest = id
		}
	}
	delete(g.inside, oldest)
	g.holders[k.holder()]--
	g.end([]uint64{oldest})
}

// ban keeps a worker's keys out. It returns the connections that came in with them.
func (g *guard) ban(worker string) (out []uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, e := range g.inside {
		if e.key.Role == RoleWorker && e.key.ID == worker {
			out = append(out, id)
		}
	}
	if len(out) > 0 || len(g.banned) < maxStrangersBanned {
		g.banned[worker] = true
	}
	return out
}

// members is how many connections are let in, as far as is known.
func (g *guard) members() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.inside)
}

// sweep takes a list of the connections that there are, the oldest first. It
// forgets those that are gone, and returns which are to be closed: those whose
// key does not count any more, and the oldest that have said nothing, where there
// are more of them than may be.
func (g *guard) sweep(there []uint64, silent int) (out []uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.inside
	g.inside, g.holders = map[uint64]entry{}, map[[2]string]int{}
	var strangers []uint64
	for id, e := range was { // it may have come in after the list was made
		if time.Since(e.at) < time.Second {
			there = append(there, id)
		}
	}
	for _, id := range there {
		e, ok := was[id]
		if !ok {
			strangers = append(strangers, id)
			continue
		}
		if _, again := g.inside[id]; again {
			continue
		}
		g.inside[id] = e
		k := e.key
		if k.Role == "" {
			continue
		}
		g.holders[k.holder()]++
		if g.revoked.has(k) || g.out(k) {
			out = append(out, id)
		}
	}
	if n := len(strangers) - silent; n > 0 {
		out = append(out, strangers[:n]...)
	}
	return out
}
