package serve

import (
	"fmt"
	"sync/atomic"
	"time"
)

// counters are what /metrics shows.
type counters struct {
	questions, batches, failed, refused atomic.Int64
	nanoseconds                         atomic.Int64 // that the model took
}

func (c *counters) answered(n int, took time.Duration) {
	c.questions.Add(int64(n))
	c.batches.Add(1)
	c.nanoseconds.Add(int64(took))
}

// text is Prometheus' format.
func (c *counters) text(clients int) string {
	line := func(kind, name, help string, v any) string {
		return fmt.Sprintf("# HELP vlaring_serve_%s %s\n# TYPE vlaring_serve_%s %s\nvlaring_serve_%s %v\n", name, help, name, kind, name, v)
	}
	return line("gauge", "clients", "Clients that are connected.", clients) +
		line("counter", "questions_total", "Observations that were answered.", c.questions.Load()) +
		line("counter", "batches_total", "Runs of the model, of one or several questions.", c.batches.Load()) +
		line("counter", "model_seconds_total", "Seconds that the model ran.", time.Duration(c.nanoseconds.Load()).Seconds()) +
		line("counter", "errors_total", "Errors that clients were told.", c.failed.Load()) +
		line("counter", "refused_total", "Requests without the key, or above the limit of clients.", c.refused.Load())
}
