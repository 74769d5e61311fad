package train

import (
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/stream"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
)

// Road is a kind of cluster.road: how the gradients of a job travel. The bits of a
// sum are the same on all.
type Road interface {
	job.Options
	// Way is what the coordinator has to know of it.
	Way() cluster.Road
	// Open makes a worker's end of the network between hosts that Way names, and
	// owns what it is given from then on. It is not asked where Way names none.
	Open(end allreduce.End) (allreduce.HostNetwork, error)
}

// roads lists the kinds of road; the first is that of a job that names none.
func roads() []job.Kind {
	direct := road{way: cluster.Road{Shares: true, Network: "direct connections"},
		open: func(end allreduce.End) (allreduce.HostNetwork, error) { return stream.New(end) }}
	return []job.Kind{
		{Name: "auto", About: "shared memory within a host, NATS between hosts", Options: road{way: cluster.Road{Shares: true}}},
		{Name: "nats", About: "NATS between all workers", Options: road{}},
		{Name: "shm", About: "shared memory between all, on one host", Options: road{way: cluster.Road{Shares: true, Alone: true}}},
		{Name: "direct", About: "shared memory within a host, TCP between hosts, NATS where that fails", Options: direct},
	}
}

// road is a Road of this program.
type road struct {
	way  cluster.Road
	open func(allreduce.End) (allreduce.HostNetwork, error)
}

var _ Road = road{}

func (r road) Resolve(*job.Job, func(string) bool) job.Options       { return r }
func (r road) Check(*job.Checker)                                    {}
func (r road) Way() cluster.Road                                     { return r.way }
func (r road) Open(end allreduce.End) (allreduce.HostNetwork, error) { return r.open(end) }

// RoadOf is the job's road.
func RoadOf(j *job.Job) Road { return j.Road().(Road) }

// WayOf is what the coordinator has to know of the job's road.
func WayOf(j *job.Job) cluster.Road {
	w := RoadOf(j).Way()
	w.Name = j.Cluster.Road
	return w
}
