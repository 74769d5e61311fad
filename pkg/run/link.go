package run

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/netaddr"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/transport"
)

// connect starts the broker, or finds the one that runs elsewhere.
// It hears Ctrl-C.
func (s *session) connect(ctx context.Context, hear *stops) error {
	ctx, done := hear.during(ctx)
	l, err := s.dial(ctx)
	if reason := done(); reason != nil {
		if err == nil {
			l.close()
		}
		return s.stopped(reason, "while it connected")
	}
	s.link = l
	return err
}

func (s *session) dial(ctx context.Context) (l *link, err error) {
	server := s.opt.Server
	warn := func(text string) { s.log.Warn(text) }
	creds, err := server.Credentials(warn)
	if err != nil {
		return nil, err
	}
	l = &link{encrypt: creds.TLS.Cert != "" || creds.TLS.CA != "" || strings.HasPrefix(server.URL, "tls://") || server.Listen != "" && !loopback(server.Listen), job: s.job.Name, url: server.URL, creds: creds, tlsName: creds.TLS.Name}
	if server.URL == "" {
		if may, ok := machine.OpenFiles(); ok {
			if err := roomForConnections(s.job.Cluster, may); err != nil {
				return nil, err
			}
		}
		if creds.Key != nil {
			return nil, usage.Errorf("this is the key of %s %q: the coordinator's own server is given the token that the keys were made from", creds.Key.Role, creds.Key.ID)
		}
		o := transport.HostOptions{Job: s.job.Name, Token: creds.Token, TLS: creds.TLS, Event: warn, Revoked: cmp.Or(creds.Revoked, s.dir.at("revoked"))}
		was, err := ReadAddress(s.dir.path)
		if err != nil || !s.dir.takeover {
			was = Address{}
		}
		if was.Port > 0 { // the workers that live look for it there
			o.Host, o.Port, o.Token = was.Host, was.Port, was.Token
		}
		if server.Listen != "" {
			host, port, err := usage.Listen("--listen", server.Listen)
			if err != nil {
				return nil, err
			}
			if o.Host = host; port > 0 { // else a free one, or where the workers that live look for it
				o.Port = port
			}
		}
		if o.Routes, err = s.routesOf(o, was); err != nil {
			return nil, err
		}
		l.broker, err = server.Transport.Host(o)
		if err != nil && server.Listen == "" && o.Port > 0 { // its workers of this machine find it elsewhere, too
			warn(fmt.Sprintf("port %d, where this run's broker was, is not to be had: it takes another one (%v)", o.Port, err))
			o.Port = 0
			l.broker, err = server.Transport.Host(o)
		}
		if err != nil {
			return nil, err
		}
		l.url, l.creds.Token, l.host = l.broker.URL(), l.broker.Token(), o.Host
		if l.tlsName == "" {
			l.tlsName = l.broker.TLSName()
		}
		if server.Listen != "" || s.opt.Local == 0 {
			file := s.dir.at("token")
			if err := atomicfile.Write(file, []byte(l.creds.Token+"\n"), 0o600); err != nil {
				l.close()
				return nil, err
			}
			l.hint = joinHint("--nats "+l.url, s.job.Name, file, creds.TLS.Cert != "", l.tlsName)
			for _, url := range l.broker.Others() {
				l.hint += fmt.Sprintf(" (or --nats %s)", url)
			}
			if o.Routes != nil {
				l.hint = joinHint("--mesh "+l.broker.RouteAddr(), s.job.Name, file, creds.TLS.Cert != "", l.tlsName)
			}
		}
	} else {
		if creds.Key != nil && s.opt.Local > 0 {
			return nil, usage.Errorf("a worker needs a key of its own, and with --nats none can be made here: say --workers 0, and start each with its key (coordinator keys %s worker:… --server)", s.job.Name)
		}
		l.hint = joinHint("--nats "+l.url, s.job.Name, "FILE", creds.TLS.CA != "", creds.TLS.Name)
	}
	patience, cancel := context.WithTimeout(ctx, time.Duration(s.job.Cluster.JoinTimeout))
	defer cancel()
	if l.conn, err = transport.Connect(patience, server.Transport, l.broker, l.url, l.creds, transport.Options{Job: s.job.Name, Member: cluster.CoordinatorName,
		Chunk: s.frameChunk(), Event: warn}); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// loopback says whether an address is one that no network carries.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
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
func (s *session) frameChunk() int {
	if train.WayOf(s.job).Alone {
		return 0
	}
	return s.job.Cluster.ChunkBytes
}

// TopologyMesh is the value of cluster.topology with a broker in every worker.
const TopologyMesh = "mesh"

// routes is where the coordinator's broker of a mesh listens for the workers':
// where it was, else where --routes says, else beside --listen.
func (s *session) routesOf(o transport.HostOptions, was Address) (*transport.Routes, error) {
	if s.job.Cluster.Topology != TopologyMesh {
		if s.opt.Server.Routes != "" {
			return nil, usage.Errorf("--routes is for jobs with cluster.topology mesh, and this one's is %s", s.job.Cluster.Topology)
		}
		return nil, nil
	}
	routes := &transport.Routes{Host: o.Host}
	var err error
	switch {
	case s.opt.Server.Routes != "":
		routes.Host, routes.Port, err = usage.Listen("--routes", s.opt.Server.Routes)
	case was.Routes != "":
		_, routes.Port, err = usage.HostPort(AddressFile, was.Routes)
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
	encrypt bool // direct connections between workers, as NATS is
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

// openBlobs opens its end of the bulk transfer, with what stock puts on offer; close
// closes it.
func (l *link) openBlobs(stock func(bulk.Blobs) error) (err error) {
	l.blobs, err = l.conn.Blobs(stock)
	return err
}

// address is what the run directory says of it.
func (l *link) address() Address {
	a := Address{URL: l.url, Job: l.job}
	if l.broker != nil {
		a.Host, a.Token, a.Name = l.host, l.creds.Token, l.tlsName
		a.Port, a.Routes = netaddr.Port(l.url), l.broker.RouteAddr()
	}
	return a
}

// workerCommand is the command of a local worker that joins this job.
func (s *session) workerCommand(id string) *exec.Cmd {
	l := s.link
	p := Place{ID: id, Job: s.job.Name, URL: l.url, Credentials: l.creds, Threads: s.opt.Threads, RescueDir: s.dir.at("rescue")}
	p.Credentials.TLS.Name = l.tlsName
	if l.broker != nil {
		p.Mesh = l.broker.RouteAddr()
		if file, err := filepath.Abs(s.dir.at(AddressFile)); err == nil {
			p.Address = file
		}
		if p.Mesh == "" { // a broker in a mesh needs the token
			p.Key = l.broker.WorkerKey(id)
		}
	}
	return s.opt.Worker(p)
}
