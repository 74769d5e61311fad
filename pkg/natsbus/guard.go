package natsbus

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// guard lets in whoever proves to have the token (proof.go), or shows it, and,
// where the broker is for one job, to that job's subjects only.
//
// The token is the job's whole security: who has it may say anything in
// anyone's name, as any member may. What is guarded against beyond it is noise:
// nothing that is malformed, repeated or too much ends or changes a job.
type guard struct {
	token [sha256.Size]byte
	key   nkeys.KeyPair // of the token
	name  string        // its public half
	perms *server.Permissions
}

var _ server.Authentication = (*guard)(nil)

func newGuard(token, job string) (*guard, error) {
	g := &guard{token: sha256.Sum256([]byte(token))}
	var err error
	if g.key, err = tokenKey(token); err != nil {
		return nil, err
	}
	if g.name, err = g.key.PublicKey(); err != nil {
		return nil, err
	}
	if job != "" {
		if err := cluster.ValidName("job name", job); err != nil {
			return nil, err
		}
		may := func() *server.SubjectPermission {
			return &server.SubjectPermission{Allow: []string{subjects(job)}}
		}
		g.perms = &server.Permissions{Publish: may(), Subscribe: may()}
	}
	return g, nil
}

// Check implements server.Authentication for clients.
func (g *guard) Check(c server.ClientAuthentication) bool {
	if o := c.GetOpts(); o.Nkey != "" {
		sig, err := base64.RawURLEncoding.DecodeString(o.Sig)
		if err != nil || o.Nkey != g.name || len(c.GetNonce()) == 0 || g.key.Verify(c.GetNonce(), sig) != nil {
			return false
		}
	} else { // hashes make the comparison take the same time for every token, of whatever length
		shown := sha256.Sum256([]byte(o.Token))
		if subtle.ConstantTimeCompare(shown[:], g.token[:]) != 1 {
			return false
		}
	}
	c.RegisterUser(&server.User{Username: "member", Permissions: g.perms})
	return true
}
