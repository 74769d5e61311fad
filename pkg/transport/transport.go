// Package transport is how a member of a job reaches the others: control
// messages, the frames of the ring and bulk state, all of one connection. It is
// the one place that knows what carries them; commands, runs, workers and
// measurements see the three seams.
//
//	Host (a coordinator's server)          Dial (everybody else)
//	  │ Host.Dial, in process                │ by URL and credentials
//	  └───────────────> Member <─────────────┘
//	                      ├ Bus()      cluster.Bus        control messages
//	                      ├ Network()  allreduce.Network  the ring's frames
//	                      └ Blobs()    bulk.Blobs         state, samples
//
// NATS is the transport of jobs. NewMemory makes one for a single process, for
// tests. Another is a Kind of its own: a file here, or a value that a test hands in.
package transport

import (
	"context"
	"io"
	"strings"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/natsbus"
)

// What a server and those who connect to it prove themselves by, and where the
// servers of a mesh meet. Every transport takes them in the same form.
type (
	Credentials = natsbus.Credentials
	TLSFiles    = natsbus.TLSFiles
	Routes      = natsbus.Routes
	HostOptions = natsbus.BrokerOptions
	Key         = natsbus.Key
	Role        = natsbus.Role
)

// Roles of those who have a key.
const (
	RoleCoordinator = natsbus.RoleCoordinator
	RoleWorker      = natsbus.RoleWorker
	RoleOperator    = natsbus.RoleOperator
	RoleWatcher     = natsbus.RoleWatcher
)

// AskMember is the member that status, stop and scale dial as.
const AskMember = natsbus.AskMember

// Kind is a transport.
type Kind interface {
	// Check says what is wrong with a URL of servers, without trying it.
	Check(url string) error
	// Dial connects a member to a server, which is waited for until ctx ends; what
	// waiting does not mend fails at once.
	Dial(ctx context.Context, url string, c Credentials, o Options) (Member, error)
	// Host starts a server in this process, and returns once it can be dialled.
	Host(o HostOptions) (Host, error)
}

// Of is the transport of a URL of servers, by its scheme: where there is another
// than NATS, this is its registration. Without a URL the server is the
// coordinator's own.
func Of(url string) Kind {
	scheme, _, _ := strings.Cut(url, "://")
	switch scheme {
	default: // nats, tls; of what is none of them NATS says so
		return NATS{}
	}
}

// Connect dials host where there is one, in this process, and else the servers of url.
func Connect(ctx context.Context, k Kind, host Host, url string, c Credentials, o Options) (Member, error) {
	if host != nil {
		return host.Dial(ctx, o)
	}
	return k.Dial(ctx, url, c, o)
}

// Options say who connects.
type Options struct {
	Job    string            // its name
	Member string            // this member's name in it: a worker's id, or the coordinator's
	Chunk  int               // cluster.chunk_bytes, which the server must let through; 0: not known yet
	Event  func(text string) // told of lost and regained connections and the like; may be nil
	Moved  func() string     // asked before each connection for the URL where the server is now; nil, or empty: where it was

	// Trouble is told, once each, of what keeps the job from going on or at a
	// crawl until somebody mends it; nil: Event.
	Trouble func(text string)
}

// Member is one member's connection.
type Member interface {
	Bus() cluster.Bus
	// Network opens this member's end of the ring's network, once.
	Network() (allreduce.Network, error)
	// Blobs opens this member's end of the bulk transfer, once. stock, where it is not
	// nil, puts on offer what is there from the beginning: others are answered once it
	// has returned, so that nobody is told of one of these that it is unknown. Until
	// then this member is waited for. An error of stock's is that of Blobs.
	Blobs(stock func(bulk.Blobs) error) (Blobs, error)
	// Broken is closed when the connection can never again do what it is for; Err
	// says why, and is nil before.
	Broken() <-chan struct{}
	Err() error
	// Close closes all that came from the member, sends what control messages are
	// still on their way, and disconnects. It may be called twice.
	Close() error
}

// Blobs is a member's end of the bulk transfer. Close waits until nothing that
// is on offer is read any more.
type Blobs interface {
	bulk.Blobs
	io.Closer
}

// Host is a server in this process.
type Host interface {
	// Dial connects a member of this process, without a wire.
	Dial(ctx context.Context, o Options) (Member, error)
	URL() string       // where it is reached, without secrets
	Others() []string  // further URLs
	Token() string     // what those who connect must prove
	TLSName() string   // the name to ask for where its certificate has not the host of its URL; empty: none
	RouteAddr() string // host:port for other servers of a mesh; empty: none
	Peers() int        // other servers it is connected to
	// WorkerKey is the text of what one worker needs to prove, and no more; empty: there
	// is none, and workers are given the token.
	WorkerKey(worker string) string
	// Expel closes the connections of a worker, and takes none of its again.
	Expel(worker string)
	Shutdown() // closes all connections, and waits until the server is gone
}
