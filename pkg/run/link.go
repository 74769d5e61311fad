package run

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/transport"
	"github.com/vlaring/vlaring/pkg/worker"
)

// connect starts the broker, or finds the one that runs elsewhere.
// It hears Ctrl-C.
func (r *Run) connect(ctx context.Context) (l *link, err error) {
	ctx, done := r.stoppable(ctx)
	defer func() {
		reason := done()
		if reason == nil {
			return
		}
		if err == nil {
			l.close()
		}
		l, err = nil, fmt.Errorf("%w while it connected; no step was committed, so there is nothing to resume", reason)
		if r.start > 0 {
			err = ResumableError{fmt.Sprintf("%v while it connected, at step %d\nresume with: %s", reason, r.start, r.again)}
		}
	}()
	warn := func(text string) { r.log.Warn(text) }
	creds, err := r.server.Credentials(warn)
	if err != nil {
		return nil, err
	}
	r.encrypt = creds.TLS.Cert != "" || creds.TLS.CA != "" || strings.HasPrefix(r.server.URL, "tls://")
	l = &link{job: r.job.Name, url: r.server.URL, creds: creds, tlsName: creds.TLS.Name}
	if r.server.URL == "" {
		if may, ok := machine.OpenFiles(); ok {
			if err := roomForConnections(r.job.Cluster, may); err != nil {
				return nil, err
			}
		}
		o := transport.HostOptions{Job: r.job.Name, Token: creds.Token, TLS: creds.TLS, Event: warn}
		was, err := ReadAddress(r.dir)
		if err != nil || !r.takeover {
			was = Address{}
		}
		if was.Port > 0 { // the workers that live look for it there
			o.Host, o.Port, o.Token = was.Host, was.Port, was.Token
		}
		if r.server.Listen != "" {
			if o.Host, o.Port, err = HostPort("--listen", r.server.Listen); err != nil {
				return nil, err
			}
		}
		if o.Routes, err = r.routesOf(o, was); err != nil {
			return nil, err
		}
		if l.broker, err = r.server.Transport.Host(o); err != nil {
			return nil, err
		}
		l.url, l.creds.Token, l.host = l.broker.URL(), l.broker.Token(), o.Host
		if l.tlsName == "" {
			l.tlsName = l.broker.TLSName()
		}
		if r.server.Listen != "" || r.local == 0 {
			file := filepath.Join(r.dir, "token")
			if err := atomicfile.Write(file, []byte(l.creds.Token+"\n"), 0o600); err != nil {
				l.close()
				return nil, err
			}
			l.hint = joinHint("--nats "+l.url, r.job.Name, file, creds.TLS.Cert != "", l.tlsName)
			for _, url := range l.broker.Others() {
				l.hint += fmt.Sprintf(" (or --nats %s)", url)
			}
			if o.Routes != nil {
				l.hint = joinHint("--mesh "+l.broker.RouteAddr(), r.job.Name, file, creds.TLS.Cert != "", l.tlsName)
			}
		}
	} else {
		l.hint = joinHint("--nats "+l.url, r.job.Name, "FILE", creds.TLS.CA != "", creds.TLS.Name)
	}
	patience, cancel := context.WithTimeout(ctx, time.Duration(r.job.Cluster.JoinTimeout))
	defer cancel()
	if l.conn, err = transport.Connect(patience, r.server.Transport, l.broker, l.url, l.creds, transport.Options{Job: r.job.Name, Member: worker.CoordinatorPeer,
		Chunk: r.frameChunk(), Event: warn}); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// roomForConnections says whether a coordinator that may have so many files open
// can serve the workers that its job begins with.
func roomForConnections(k job.Cluster, files int) error {
	if need := limits.Files(k.Workers); k.Topology == "broker" && need > files {
		return usage.Errorf("cluster.workers is %d, and the server in this coordinator takes %d connections of each, %d open files in all: this process may have %d\nraise that (ulimit -n %d, or LimitNOFILE= of a service), or give --nats the URL of a server of your own",
			k.Workers, limits.Connections, need, files, need)
	}
	return nil
}

// frameChunk is what the server has to let through as one frame of the ring; 0
// where no frame will ever go over it.
func (r *Run) frameChunk() int {
	if r.job.Cluster.Road == string(cluster.ShmRoad) {
		return 0
	}
	return r.job.Cluster.ChunkBytes
}

// TopologyMesh is the value of cluster.topology with a broker in every worker.
const TopologyMesh = "mesh"

// routes is where the coordinator's broker of a mesh listens for the workers':
// where it was, else where --routes says, else beside --listen.
func (r *Run) routesOf(o transport.HostOptions, was Address) (*transport.Routes, error) {
	if r.job.Cluster.Topology != TopologyMesh {
		if r.server.Routes != "" {
			return nil, usage.Errorf("--routes is for jobs with cluster.topology mesh, and this one's is %s", r.job.Cluster.Topology)
		}
		return nil, nil
	}
	routes := &transport.Routes{Host: o.Host}
	var err error
	switch {
	case r.server.Routes != "":
		routes.Host, routes.Port, err = HostPort("--routes", r.server.Routes)
	case was.Routes != "":
		_, routes.Port, err = HostPort(AddressFile, was.Routes)
	}
	return routes, err
}

// joinHint is the command that a worker elsewhere would type.
// tlsName is what it has to ask for, where the address does not say it.
func joinHint(where, job, tokenFile string, tls bool, tlsName string) string {
	s := fmt.Sprintf("worker %s --job %s --token-file %s", where, job, plain.ShellWord(tokenFile))
	if tls {
		s += " --tls-ca CA.pem"
	}
	if tlsName != "" {
		s += " --tls-server-name " + plain.ShellWord(tlsName)
	}
	return s
}

// link is a coordinator's connection, with the broker if it is its own.
type link struct {
	job     string
	broker  transport.Host // nil: it runs elsewhere
	conn    transport.Member
	blobs   transport.Blobs
	url     string
	creds   transport.Credentials
	tlsName string // that the server's certificate has, where its address does not say it
	host    string // on which the broker listens
	hint    string // how to join from elsewhere
}

func (l *link) close() {
	if l.blobs != nil {
		l.blobs.Close()
	}
	if l.conn != nil {
		l.conn.Close()
	}
	if l.broker != nil {
		l.broker.Shutdown()
	}
}
