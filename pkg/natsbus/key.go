package natsbus

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/vlaring/vlaring/internal/limits"
)

// Role is what the holder of a Key is to a job. Who has the job's token is all of them.
type Role string

// Roles. What each may say and hear is in permissions.
const (
	RoleCoordinator Role = "coordinator" // leads the job
	RoleWorker      Role = "worker"      // one worker, by its id
	RoleOperator    Role = "operator"    // asks how the job stands, stops and scales it
	RoleWatcher     Role = "watcher"     // asks how the job stands
)

// Key is what one holder may do in one job, and the means to prove it. It follows
// from the job's token, which does not follow from it:
//
//	token ──HMAC(job, role, id, made, until)──> seed of an nkey
//
// So a broker that has the token knows every key by what it claims to be, keeps
// no list of keys, and nobody can change a word of one. A key never travels: its
// holder signs what the server asks it to sign.
type Key struct {
	Job   string
	Role  Role
	ID    string    // the worker's, or a name of who asks
	Made  time.Time // keys are revoked by their time
	Until time.Time // zero: for ever

	// Broker is the public key that the broker proves to have (base64), so that
	// nobody else can pass for it. Empty: the server is one of the user's own.
	Broker string

	seed []byte
}

// keyMagic begins the text of a key.
const keyMagic = "vlaring-key 1 "

// NewKey makes a key from a job's token. Times count in seconds.
func NewKey(token, job string, role Role, id string, made, until time.Time) (Key, error) {
	k := Key{Job: job, Role: role, ID: id, Made: made.UTC().Truncate(time.Second)}
	if !until.IsZero() {
		k.Until = until.UTC().Truncate(time.Second)
	}
	if err := k.check(); err != nil {
		return Key{}, err
	}
	k.seed = derive(token, k.claims())
	k.Broker = base64.RawURLEncoding.EncodeToString(identity(token).Public().(ed25519.PublicKey))
	return k, nil
}

func (k Key) check() error {
	switch k.Role {
	case RoleCoordinator, RoleWorker, RoleOperator, RoleWatcher:
	default:
		return fmt.Errorf("role %.40q: want coordinator, worker, operator or watcher", string(k.Role))
	}
	for what, name := range map[string]string{"job": k.Job, "id": k.ID} {
		if !limits.IsName(name) {
			return fmt.Errorf("%s %.80q: want 1 to %d letters, digits, '-' or '_'", what, name, limits.Name)
		}
	}
	if (k.ID == string(RoleCoordinator)) != (k.Role == RoleCoordinator) {
		return fmt.Errorf("id %q of a %s: the coordinator alone has that name", k.ID, k.Role)
	}
	return nil
}

// claims are what a key says of itself, as one word each.
func (k Key) claims() string {
	return fmt.Sprintf("%s %s %s %d %d", k.Job, k.Role, k.ID, unix(k.Made), unix(k.Until))
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// parseClaims is the inverse of claims.
func parseClaims(text string) (k Key, ok bool) {
	w := strings.Split(text, " ")
	if len(w) != 5 {
		return k, false
	}
	made, err := strconv.ParseInt(w[3], 10, 64)
	until, err2 := strconv.ParseInt(w[4], 10, 64)
	if err != nil || err2 != nil {
		return k, false
	}
	k = Key{Job: w[0], Role: Role(w[1]), ID: w[2], Made: time.Unix(made, 0).UTC()}
	if until != 0 {
		k.Until = time.Unix(until, 0).UTC()
	}
	return k, k.check() == nil
}

// ForServer is the key for a NATS server of the user's own, which is known by its
// certificate or not at all.
func (k Key) ForServer() Key {
	k.Broker = ""
	return k
}

// Public is the public half, as nkeys write it: U…
func (k Key) Public() string {
	pair, err := k.pair()
	if err != nil {
		panic("natsbus: " + err.Error()) // a key has 32 bytes of seed
	}
	public, err := pair.PublicKey()
	if err != nil {
		panic("natsbus: " + err.Error())
	}
	return public
}

func (k Key) pair() (nkeys.KeyPair, error) { return nkeys.FromRawSeed(nkeys.PrefixByteUser, k.seed) }

// String is the key as one line of text, secret included.
func (k Key) String() string {
	pair, err := k.pair()
	if err != nil {
		panic("natsbus: " + err.Error())
	}
	seed, err := pair.Seed()
	if err != nil {
		panic("natsbus: " + err.Error())
	}
	s := fmt.Sprintf("%sjob=%s role=%s id=%s made=%s", keyMagic, k.Job, k.Role, k.ID, k.Made.Format(time.RFC3339))
	if !k.Until.IsZero() {
		s += " until=" + k.Until.Format(time.RFC3339)
	}
	if k.Broker != "" {
		s += " broker=" + k.Broker
	}
	return s + " seed=" + string(seed)
}

// IsKey says whether a secret is meant to be a key, and no token.
func IsKey(text string) bool { return strings.HasPrefix(text, keyMagic) }

// ParseKey reads what String has written. No error shows a part of the secret.
func ParseKey(text string) (Key, error) {
	var k Key
	if !IsKey(text) {
		return k, fmt.Errorf("it does not begin with %q", keyMagic)
	}
	seen := map[string]string{}
	for _, w := range strings.Fields(text[len(keyMagic):]) {
		name, value, ok := strings.Cut(w, "=")
		if _, again := seen[name]; !ok || again {
			return k, errors.New("a word of it is no name=value, or stands there twice")
		}
		seen[name] = value
	}
	k = Key{Job: seen["job"], Role: Role(seen["role"]), ID: seen["id"], Broker: seen["broker"]}
	var err error
	if k.Made, err = time.Parse(time.RFC3339, seen["made"]); err != nil {
		return Key{}, fmt.Errorf("made=%.40q is no time", seen["made"])
	}
	if until, ok := seen["until"]; ok {
		if k.Until, err = time.Parse(time.RFC3339, until); err != nil {
			return Key{}, fmt.Errorf("until=%.40q is no time", until)
		}
	}
	if b, err := base64.RawURLEncoding.DecodeString(k.Broker); err != nil || k.Broker != "" && len(b) != ed25519.PublicKeySize {
		return Key{}, errors.New("its broker= is no public key")
	}
	pair, err := nkeys.FromSeed([]byte(seen["seed"]))
	if err != nil {
		return Key{}, errors.New("its seed= is none, or cut off")
	}
	raw, err := pair.Seed()
	if err == nil {
		var prefix nkeys.PrefixByte
		if prefix, k.seed, err = nkeys.DecodeSeed(raw); err == nil && prefix != nkeys.PrefixByteUser {
			err = errors.New("it is no user's")
		}
	}
	if err != nil {
		return Key{}, errors.New("its seed= is no user's")
	}
	return k, k.check()
}

// keyIs stands in a client's name before what its key claims to be.
const keyIs = " key "

// asks says whether the holder takes no part in the job.
func (k Key) asks() bool { return k.Role == RoleOperator || k.Role == RoleWatcher }

// member is the name that a holder of the key has, who wants to be member of a job.
func (k Key) member(job, member string) (string, error) {
	what := map[Role]string{RoleWorker: "a worker", RoleCoordinator: "the coordinator"}[k.Role]
	switch {
	case k.Job != job:
		return "", fmt.Errorf("this key is for job %q, and not for %q", k.Job, job)
	case !k.Until.IsZero() && !time.Now().Before(k.Until):
		return "", fmt.Errorf("this key of %s %s was good until %s: have another one made (coordinator keys)", k.Role, k.ID, date(k.Until))
	case k.asks() && member != AskMember:
		return "", fmt.Errorf("this is the key of %s %q, who may ask and takes no part in the job", k.Role, k.ID)
	case k.asks():
		return k.ID, nil
	case member == AskMember:
		return "", fmt.Errorf("this is the key of %s, who may not ask for the job: an operator or a watcher may (coordinator keys)", what)
	case k.ID != member:
		return "", fmt.Errorf("this is the key of %s %q, and nobody else's: it is no key of %q", k.Role, k.ID, member)
	}
	return member, nil
}
