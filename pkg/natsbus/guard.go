package natsbus

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

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
	banned  map[string]bool // workers that were put out
}

var _ server.Authentication = (*guard)(nil)

// entry is a connection that was let in.
type entry struct {
	key Key // zero: the token's
	at  time.Time
}

// holderConns bounds the connections of one key: a member has limits.Connections,
// and old ones that the server has yet to miss.
const holderConns = 32

func newGuard(o BrokerOptions) (*guard, error) {
	g := &guard{token: o.Token, hash: sha256.Sum256([]byte(o.Token)), job: o.Job, revoked: revocations{path: o.Revoked},
		inside: map[uint64]entry{}, holders: map[[2]string]int{}, banned: map[string]bool{}}
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
	if c.GetTLSConnectionState() == nil && !sameMachine(c.RemoteAddress()) {
		return false
	}
	o := c.GetOpts()
	switch {
	case o.Nkey == "": // hashes make the comparison take the same time for every token, of whatever length
		shown := sha256.Sum256([]byte(o.Token))
		if subtle.ConstantTimeCompare(shown[:], g.hash[:]) != 1 {
			return false
		}
	case o.Nkey == g.name:
		if !proves(g.key, c, o) {
			return false
		}
	default:
		return g.checkKey(c, o)
	}
	g.enter(c.GetID(), Key{})
	c.RegisterUser(&server.User{Username: "member", Permissions: g.perms})
	return true
}

// checkKey makes the key that the other end claims to have, and looks whether it has it.
func (g *guard) checkKey(c server.ClientAuthentication, o *server.ClientOpts) bool {
	claims := o.Name
	if i := strings.LastIndex(claims, keyIs); i >= 0 {
		claims = claims[i+len(keyIs):]
	}
	k, ok := parseClaims(claims)
	if !ok || g.job != "" && k.Job != g.job {
		return false
	}
	k.seed = derive(g.token, k.claims())
	pair, err := k.pair()
	if err != nil || o.Nkey != k.Public() || !proves(pair, c, o) || !k.Until.IsZero() && !time.Now().Before(k.Until) || g.revoked.has(k) {
		return false
	}
	g.mu.Lock()
	full := g.holders[k.holder()] >= holderConns || g.banned[k.ID] && k.Role == RoleWorker
	g.mu.Unlock()
	if full {
		return false
	}
	g.enter(c.GetID(), k)
	c.RegisterUser(&server.User{Username: string(k.Role) + " " + k.ID, Permissions: permissions(k.Job, k.Role, k.ID).server(), ConnectionDeadline: k.Until})
	return true
}

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
	g.inside[id] = entry{k, time.Now()}
	if k.Role != "" {
		g.holders[k.holder()]++
	}
}

// ban keeps a worker's keys out. It returns the connections that came in with them.
func (g *guard) ban(worker string) (out []uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.banned[worker] = true
	for id, e := range g.inside {
		if e.key.Role == RoleWorker && e.key.ID == worker {
			out = append(out, id)
		}
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
		if g.revoked.has(k) || g.banned[k.ID] && k.Role == RoleWorker {
			out = append(out, id)
		}
	}
	if n := len(strangers) - silent; n > 0 {
		out = append(out, strangers[:n]...)
	}
	return out
}
