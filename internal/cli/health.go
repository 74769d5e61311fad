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
	otlp   string
}

func (f *healthFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.listen, "health", "", "host:port of /healthz, /readyz and /metrics, by plain HTTP and for whoever asks (default: nowhere)")
	fl.BoolVar(&f.pprof, "pprof", false, "with --health: also Go's profiles, at /debug/pprof/")
	fl.StringVar(&f.otlp, "otlp", "", "URL of a collector that is sent the metrics by OTLP over HTTP, e.g. http://collector:4318 (default: the environment's OTEL_EXPORTER_OTLP_ENDPOINT, or nowhere)")
}

func (f *healthFlags) options(role, job string) health.Options {
	return health.Options{Listen: f.listen, Pprof: f.pprof, OTLP: f.otlp, Version: Version(), Role: role, Job: job}
}
