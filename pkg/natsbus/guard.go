package natsbus

import (
	"crypto/sha256"
	"crypto/subtle"

	"github.com/nats-io/nats-server/v2/server"
)

// guard lets in whoever shows the token, and, where the broker is for one job,
// to that job's subjects and the inboxes of replies only.
//
// The token is the job's whole security: who has it may say anything in
// anyone's name, as any member may. What is guarded against beyond it is noise:
// nothing that is malformed, repeated or too much ends or changes a job.
type guard struct {
	token [sha256.Size]byte
	perms *server.Permissions
}

var _ server.Authentication = (*guard)(nil)

func newGuard(token, job string) (*guard, error) {
	g := &guard{token: sha256.Sum256([]byte(token))}
	if job != "" {
		if err := ValidName("job name", job); err != nil {
			return nil, err
		}
		may := func() *server.SubjectPermission {
			return &server.SubjectPermission{Allow: []string{"vlaring." + job + ".>", "_INBOX.>"}}
		}
		g.perms = &server.Permissions{Publish: may(), Subscribe: may()}
	}
	return g, nil
}

// Check implements server.Authentication for clients. The hashes make the
// comparison take the same time for every token, of whatever length.
func (g *guard) Check(c server.ClientAuthentication) bool {
	shown := sha256.Sum256([]byte(c.GetOpts().Token))
	if subtle.ConstantTimeCompare(shown[:], g.token[:]) != 1 {
		return false
	}
	c.RegisterUser(&server.User{Username: "member", Permissions: g.perms})
	return true
}
