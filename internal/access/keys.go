package access

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/transport"
)

// Files of a folder of keys.
const (
	tokenName   = "token"   // all that there is may be made from it
	revokedName = "revoked" // beside the token: keys that do not count any more
	serverName  = "nats.conf"
)

// Keys says which keys are to be made.
type Keys struct {
	Job    string
	Dir    string        // where they go, and the token that they follow from
	For    time.Duration // how long they are good; 0: for ever
	Server bool          // for a NATS server of one's own, and not for the coordinator's
	Revoke bool          // the holders' keys of up to now are to end
	Who    []string      // worker:w0, worker:w0..w7, watcher:NAME, operator:NAME
	Now    time.Time
}

// holder is who gets a key.
type holder struct {
	role transport.Role
	id   string
}

func (h holder) file() string {
	if h.role == transport.RoleCoordinator {
		return "coordinator.key"
	}
	return fmt.Sprintf("%s-%s.key", h.role, h.id)
}

// holders reads who is meant.
func holders(words []string) (l []holder, err error) {
	for _, w := range words {
		role, id, ok := strings.Cut(w, ":")
		r := transport.Role(role)
		if !ok || id == "" || r != transport.RoleWorker && r != transport.RoleOperator && r != transport.RoleWatcher {
			return nil, usage.Errorf("%q: want worker:ID, watcher:NAME or operator:NAME, or several as in worker:w0..w7", w)
		}
		first, last, several := strings.Cut(id, "..")
		if !several {
			l = append(l, holder{r, id})
			continue
		}
		stem := strings.TrimRight(first, "0123456789")
		a, err := strconv.Atoi(first[len(stem):])
		b, err2 := strconv.Atoi(strings.TrimPrefix(last, stem))
		if err != nil || err2 != nil || b < a || b-a >= 1<<16 {
			return nil, usage.Errorf("%q: want the first and the last of several as in worker:w0..w7", w)
		}
		for ; a <= b; a++ {
			l = append(l, holder{r, stem + strconv.Itoa(a)})
		}
	}
	return l, nil
}

// Make makes the keys, or revokes some, and says what to put where.
func Make(k Keys) (string, error) {
	who, err := holders(k.Who)
	switch {
	case err != nil:
		return "", err
	case len(who) == 0 && (k.Revoke || !k.Server):
		return "", usage.Errorf("whose keys? give worker:ID, watcher:NAME or operator:NAME, as many as you like")
	case k.For < 0:
		return "", usage.Errorf("--for %v: want how long the keys are good, as in 720h", k.For)
	}
	if k.Revoke {
		return k.revoke(who)
	}
	if k.Server {
		who = append([]holder{{transport.RoleCoordinator, string(transport.RoleCoordinator)}}, who...)
	}
	token, err := k.token()
	if err != nil {
		return "", err
	}
	var until time.Time
	if k.For > 0 {
		until = k.Now.Add(k.For)
	}
	for _, h := range who {
		key, err := transport.NewKey(token, k.Job, h.role, h.id, k.Now, until)
		if err != nil {
			return "", usage.Errorf("a key of %s %s: %w", h.role, h.id, err)
		}
		if k.Server {
			key = key.ForServer()
		}
		if err := atomicfile.Write(filepath.Join(k.Dir, h.file()), []byte(key.String()+"\n"), 0o600); err != nil {
			return "", err
		}
	}
	if k.Server {
		if err := k.serverFile(); err != nil {
			return "", err
		}
	}
	return k.advice(who, until), nil
}

// token is what the folder's keys follow from; there is one from the first time on.
func (k Keys) token() (string, error) {
	if err := os.MkdirAll(k.Dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(k.Dir, tokenName)
	b, err := os.ReadFile(path)
	if err == nil {
		if t := strings.TrimSpace(string(b)); t != "" && !transport.IsKey(t) {
			return t, nil
		}
		return "", usage.Errorf("%s holds no token: take it away, and another one is made", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var raw [32]byte
	rand.Read(raw[:])
	token := hex.EncodeToString(raw[:])
	return token, atomicfile.Write(path, []byte(token+"\n"), 0o600)
}

// revoke ends the keys that were made until now.
func (k Keys) revoke(who []holder) (string, error) {
	path := filepath.Join(k.Dir, revokedName)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	text := string(b)
	for _, h := range who {
		text += transport.Revocation(h.role, h.id, k.Now)
	}
	if err := atomicfile.Write(path, []byte(text), 0o600); err != nil {
		return "", err
	}
	return fmt.Sprintf("revoked in %s: the coordinator that has --token-file %s sees it within a second, and closes their connections\nfor a NATS server of your own take their lines out of its configuration, and have it read again",
		path, filepath.Join(k.Dir, tokenName)), nil
}

// serverFile writes what a server has to know of all keys of the folder.
func (k Keys) serverFile() error {
	files, err := filepath.Glob(filepath.Join(k.Dir, "*.key"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	var keys []transport.Key
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		key, err := transport.ParseKey(strings.TrimSpace(string(b)))
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		if key.Job == k.Job && key.Broker == "" {
			keys = append(keys, key)
		}
	}
	text := "# Users of the job " + k.Job + ", made by coordinator keys. A line that is taken out ends that key.\n" + transport.ServerConfig(keys)
	return atomicfile.Write(filepath.Join(k.Dir, serverName), []byte(text), 0o644)
}

// advice says what to put where.
func (k Keys) advice(who []holder, until time.Time) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	at := func(name string) string { return plain.ShellWord(filepath.Join(k.Dir, name)) }
	url, server := "nats://HOST:4222", "coordinator train JOB.yaml --listen HOST:4222 --token-file "+at(tokenName)
	if k.Server {
		fmt.Fprintf(t, "%s\tinclude it in the server's configuration; without TLS its users' words can be read\n", at(serverName))
		url, server = "nats://SERVER:4222", "coordinator train JOB.yaml --workers 0 --nats nats://SERVER:4222 --token-file "+at("coordinator.key")
		fmt.Fprintf(t, "%s\tstays here: all keys follow from it\n", at(tokenName))
		fmt.Fprintf(t, "%s\tthe coordinator's: %s\n", at("coordinator.key"), server)
	} else {
		fmt.Fprintf(t, "%s\tthe coordinator's, and nobody else's: %s\n", at(tokenName), server)
	}
	said := map[transport.Role]int{}
	for _, h := range who {
		how := ""
		switch h.role {
		case transport.RoleCoordinator:
			continue
		case transport.RoleWorker:
			how = fmt.Sprintf("to where %s runs: worker --nats %s --job %s --token-file %s", h.id, url, k.Job, h.file())
		case transport.RoleOperator:
			how = fmt.Sprintf("to who may stop and scale: coordinator stop --nats %s --job %s --token-file %s", url, k.Job, h.file())
		default:
			how = fmt.Sprintf("to who may look: coordinator status --nats %s --job %s --token-file %s", url, k.Job, h.file())
		}
		if said[h.role]++; said[h.role] <= 3 {
			fmt.Fprintf(t, "%s\t%s\n", at(h.file()), how)
		} else if said[h.role] == 4 {
			fmt.Fprintf(t, "%s …\tand so on\n", at(h.file()))
		}
	}
	t.Flush()
	switch {
	case until.IsZero():
		b.WriteString("the keys are good until they are revoked (--revoke)\n")
	case k.Server:
		fmt.Fprintf(&b, "the programs use the keys until %s; a NATS server goes by its configuration alone\n", until.UTC().Format(time.RFC3339))
	default:
		fmt.Fprintf(&b, "the keys are good until %s\n", until.UTC().Format(time.RFC3339))
	}
	return b.String()
}
