package natsbus

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Subjects of a job. The last word of each but the inboxes' is who may speak or
// who listens there, so that a server can see to it:
//
//	vlaring.JOB.coordinator       a coordinator, to others that would lead
//	vlaring.JOB.from.ID           worker ID, to the coordinator
//	vlaring.JOB.look              a watcher or an operator: how does the job stand?
//	vlaring.JOB.order             an operator: stop, scale
//	vlaring.JOB.worker.ID         the coordinator, to worker ID
//	vlaring.JOB.ring.TO.FROM      frames of worker FROM
//	vlaring.JOB.blob.OWNER        requests of any member for what OWNER has on offer
//	vlaring.JOB.inbox.MEMBER.…    replies to a member
//	vlaring.JOB.asked.NAME.…      replies to a watcher or an operator
//
// A reply may be sent by whoever has been asked, once, and by nobody else
// (allow_responses).
type permission struct {
	publish, subscribe []string
	answers            bool // what it is asked, it may answer
}

// permissions are what the holder of a key needs, and all that it gets.
func permissions(job string, role Role, id string) permission {
	s := func(format string, v ...any) string { return "vlaring." + job + "." + fmt.Sprintf(format, v...) }
	switch role {
	case RoleCoordinator:
		return permission{
			publish:   []string{s("coordinator"), s("worker.*"), s("blob.*")},
			subscribe: []string{s("coordinator"), s("from.*"), s("look"), s("order"), s("blob.coordinator"), s("inbox.coordinator.>")},
			answers:   true,
		}
	case RoleWorker:
		return permission{
			publish:   []string{s("from.%s", id), s("ring.*.%s", id), s("blob.*")},
			subscribe: []string{s("worker.%s", id), s("ring.%s.*", id), s("blob.%s", id), s("inbox.%s.>", id)},
			answers:   true,
		}
	case RoleOperator:
		return permission{publish: []string{s("look"), s("order")}, subscribe: []string{s("asked.%s.>", id)}}
	}
	return permission{publish: []string{s("look")}, subscribe: []string{s("asked.%s.>", id)}}
}

// answerWait is how long a question may be answered.
const answerWait = 2 * time.Minute

// server is the permission as an embedded server takes it.
func (p permission) server() *server.Permissions {
	out := &server.Permissions{Publish: &server.SubjectPermission{Allow: p.publish}, Subscribe: &server.SubjectPermission{Allow: p.subscribe}}
	if p.answers {
		out.Response = &server.ResponsePermission{MaxMsgs: 1, Expires: answerWait}
	}
	return out
}

// ServerConfig is what the configuration file of a NATS server has to say of the
// holders of keys.
func ServerConfig(keys []Key) string {
	quoted := func(l []string) string { return `["` + strings.Join(l, `", "`) + `"]` }
	var b strings.Builder
	b.WriteString("authorization {\n  users = [\n")
	for _, k := range keys {
		p := permissions(k.Job, k.Role, k.ID)
		answers := ""
		if p.answers {
			answers = fmt.Sprintf(", allow_responses: {max: 1, expires: %q}", answerWait.String())
		}
		fmt.Fprintf(&b, "    { nkey: %s # %s %s\n      permissions: {publish: %s, subscribe: %s%s} }\n", k.Public(), k.Role, k.ID, quoted(p.publish), quoted(p.subscribe), answers)
	}
	b.WriteString("  ]\n}\n")
	return b.String()
}
