package natsbus

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// AskMember is the member that status, stop and scale connect as, unless they have
// a key with a name: what it has to say is told apart by it, as is what the
// coordinator has.
const AskMember = "ask"

// subjects are all of a job's: what a user must be allowed to publish and subscribe on.
func subjects(job string) string { return "vlaring." + job + ".>" }

// inboxPrefix is where replies to a member come in: within the job's subjects,
// so that no user of another job may listen to them.
func inboxPrefix(job, member string) string { return "vlaring." + job + ".inbox." + member }

// askedPrefix is the same of who takes no part and only asks: a name of its own may
// be a worker's as well.
func askedPrefix(job, name string) string { return "vlaring." + job + ".asked." + name }

// ringSubject is where frames for a member come in, from another.
func ringSubject(job, to, from string) string { return "vlaring." + job + ".ring." + to + "." + from }
func blobSubject(job, member string) string   { return "vlaring." + job + ".blob." + member }

// ValidServers checks a list of server URLs, separated by commas: nats://host,
// tls://host, or either with a port. One cluster's servers take the same
// credentials, and either all speak TLS or none does.
func ValidServers(urls string) error {
	list := strings.Split(urls, ",")
	var schemes [2]string
	for i, s := range list {
		which := "NATS server"
		if len(list) > 1 {
			which = fmt.Sprintf("NATS server %d of %d", i+1, len(list))
		}
		s = strings.TrimSpace(s)
		if s == "" {
			return fmt.Errorf("%s: no URL between the commas: want nats://host:4222 or tls://host:4222", which)
		}
		shown := withoutSecrets(s)
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		var bad *url.Error
		if errors.As(err, &bad) {
			err = bad.Err // without the URL and its secrets
		}
		switch {
		case err != nil:
		case u.Scheme != "nats" && u.Scheme != "tls":
			err = fmt.Errorf("scheme %q", u.Scheme)
		case u.Hostname() == "":
			err = errors.New("it names no host")
		case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
			err = errors.New("it has more than host and port")
		case u.Port() != "":
			if n, e := strconv.Atoi(u.Port()); e != nil || n < 1 || n > 65535 {
				err = fmt.Errorf("port %s", u.Port())
			}
		}
		if err != nil {
			return fmt.Errorf("%s: URL %.80q: %w: want nats://host:4222 or tls://host:4222", which, shown, err)
		}
		if u.Scheme == "nats" {
			schemes[0] = shown
		} else {
			schemes[1] = shown
		}
	}
	if schemes[0] != "" && schemes[1] != "" {
		return fmt.Errorf("NATS servers %s and %s: want TLS for all of them or for none", schemes[0], schemes[1])
	}
	return nil
}

// HasSecrets says whether a list of URLs holds a password or a token.
func HasSecrets(urls string) bool { return strings.Contains(urls, "@") }

// withoutSecrets is a list of URLs as it may be printed.
func withoutSecrets(urls string) string {
	var out []string
	for _, s := range strings.Split(urls, ",") {
		s = strings.TrimSpace(s)
		if u, err := url.Parse(s); err == nil {
			u.User = nil
			s = u.String()
		} else if i := strings.LastIndexByte(s, '@'); i >= 0 {
			s = s[i+1:]
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}
