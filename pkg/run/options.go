package run

import (
	"os/exec"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/transport"
)

// Options say what is to be run, and where.
type Options struct {
	Job        *job.Job
	JobPath    string // of the job file
	BaseDir    string // where the job's relative paths start
	Dir        string // the run directory
	Resume     bool   // go on from the newest checkpoint
	AcceptData bool   // with Resume: other data than the checkpoint's is meant
	Local      int    // worker processes to keep up on this machine; 0: all come from elsewhere
	Threads    int    // of each
	Server     Server
	Worker     func(Place) *exec.Cmd // the command that is a local worker; its output is the run's to set
	Version    string                // of this program, for manifests
	Again      string                // the command that resumes this run
	Check      string                // the command that checks all of the data
	CacheDir   string                // the user's, for what frozen encoders make where it cannot be kept beside the data; empty: none
	Scans      *data.ScanDir         // keeps what was found in the data's files; nil: the run directory does
	UI         UI
	Trace      string // file that a trace of what all ranks do goes to; empty: none
	Sinks      []Sink // that the run's records go to beside its files
}

// Server says where the job's NATS server is: it runs elsewhere, or is part of
// the coordinator.
type Server struct {
	URL         string // of one that runs elsewhere
	Listen      string // host:port for workers from elsewhere, of the coordinator's own; empty: loopback
	Routes      string // host:port for the workers' brokers, where the topology is a mesh
	Credentials func(warn func(text string)) (transport.Credentials, error)
	Transport   transport.Kind // nil: that of URL
}

// Place is what a local worker has to know: who it is, and how it reaches the
// coordinator.
type Place struct {
	ID, Job     string
	URL         string // of the server
	Mesh        string // host:port that the worker's own broker joins, instead; empty: no mesh
	Address     string // file that says where the server is now, where it is part of the coordinator; empty: it is not
	Key         string // the worker's own, in place of the credentials' token; empty: it has none
	Credentials transport.Credentials
	Threads     int
	RescueDir   string
}
