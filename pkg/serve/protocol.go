package serve

import (
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/trained"
)

// protocol is a language of clients. A new one is a file of this package, and a
// line in protocols.
type protocol struct {
	name  string
	check func(o Options, n names) error   // refuses options that the protocol cannot keep
	begin func(s *Server) (session, error) // a new connection's side
}

// protocols are all there are, the default first.
var protocols = []protocol{openpi, vlaEval}

// Protocols are the names of the languages that a server speaks.
func Protocols() (names []string) {
	for _, p := range protocols {
		names = append(names, p.name)
	}
	return names
}

func protocolOf(name string) (protocol, error) {
	i := slices.IndexFunc(protocols, func(p protocol) bool { return p.name == name })
	if i < 0 {
		return protocol{}, usage.Errorf("--protocol %s: want %s", name, strings.Join(Protocols(), " or "))
	}
	return protocols[i], nil
}

// session is one connection's side of a protocol. It says what messages mean and
// what is sent; who moves them, and asks the policy, is client. Its methods are
// called by one goroutine.
type session interface {
	// greeting is sent before the client has said anything; nil: nothing is.
	greeting() []byte

	// hear takes a message. Where it is an observation that the policy is to be asked
	// about, the next call is tell, or fail.
	hear(message []byte) (heard, error)

	// tell makes a message of the answer to what was heard.
	tell(told) ([]byte, error)

	// fail says how the client learns of an error: the last message's, of whatever
	// kind, or the policy's. Where open is false the connection then ends.
	fail(err error) (kind websocket.MessageType, message []byte, open bool)
}

// heard is what a message asks for.
type heard struct {
	ask  trained.Observation // of the policy; nil: nothing
	back []byte              // to be sent at once, where nothing is asked; nil: nothing is
	news string              // for the log; empty: none
}

// told is an answer of the policy.
type told struct {
	chunk    trained.Chunk
	notes    []string
	infer    time.Duration // from the whole question to its answer
	previous time.Duration // from the whole question before to its answer's last byte; 0: this is the first
}
