package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/health"
)

// hangs is when a part of a step that still goes on is taken for one that never ends.
const hangs = 15 * time.Minute

// healthFlags say where a process shows how it does.
type healthFlags struct {
	listen string
	pprof  bool
}

func (f *healthFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.listen, "health", "", "host:port of /healthz, /readyz and /metrics, by plain HTTP and for whoever asks (default: nowhere)")
	fl.BoolVar(&f.pprof, "pprof", false, "with --health: also Go's profiles, at /debug/pprof/")
}

func (f *healthFlags) options(role, job string) health.Options {
	return health.Options{Listen: f.listen, Pprof: f.pprof, Version: Version(), Role: role, Job: job}
}
