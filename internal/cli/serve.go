package cli

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/serve"
)

// keyEnv holds the key that clients of a server show, where no --key-file is given.
const keyEnv = "VLARING_KEY"

func newServe() *cobra.Command {
	var dir, keyFile, weights, set string
	var threads int
	var mib int64
	var o serve.Options
	var l view.Log
	c := &cobra.Command{
		Use:   "serve --checkpoint DIR",
		Short: "Answer robots and simulators with a checkpoint's actions",
		Long: `Answer observations with a checkpoint's actions, by openpi's protocol: a client of
openpi-client, unchanged, sends pictures, state and prompt by websocket under the
names that the training data has, and is answered with a chunk of actions in the
data's units. What it is first sent says all names, shapes, units and ranges;
what it sends is held against that, and every difference is named.

Equal observations get equal actions, to the last bit, alone or together with
others. GET /healthz answers OK, GET /metrics counts. SIGTERM and Ctrl-C answer
what is under way, tell the clients, and end.

Without --key-file or --tls-cert the server listens on this machine's own
addresses alone. A key can also be in the environment's ` + keyEnv + `.`,
		Example: "  coordinator serve --checkpoint runs/metaworld\n  coordinator serve --checkpoint runs/metaworld --listen 0.0.0.0:8000 --key-file key",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			log, err := l.Logger(c.ErrOrStderr())
			if err != nil {
				return err
			}
			o.Key, o.Log, o.Message = os.Getenv(keyEnv), log.Sugar().Infof, mib<<20
			if keyFile != "" {
				if o.Key, err = secretOf("key", "move the robot", keyFile, func(text string) { log.Warn(text) }); err != nil {
					return err
				}
			}
			m, err := loadWeights(c, dir, weights, set)
			if err != nil {
				return err
			}
			defer m.Close()
			p, err := m.Policy(threads)
			if err != nil {
				return err
			}
			defer p.Close()
			s, err := serve.New(p, o)
			if err != nil {
				return err
			}
			ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
			defer cancel()
			return s.Run(ctx, func(url string) { fmt.Fprintf(c.OutOrStdout(), "%s\n%s\n", p.Card(), url) })
		},
	}
	fl := c.Flags()
	fl.StringVar(&dir, "checkpoint", "", "checkpoint directory, or run directory")
	weightsFlag(c, &weights)
	fl.StringVar(&set, "data-set", "", "of a mixture: the set whose names and statistics count")
	fl.StringVar(&o.Listen, "listen", "127.0.0.1:8000", "host:port")
	fl.StringVar(&keyFile, "key-file", "", "file with a key that clients show: Authorization: Api-Key KEY")
	fl.StringVar(&o.TLS.Cert, "tls-cert", "", "own certificate file")
	fl.StringVar(&o.TLS.Key, "tls-key", "", "own key file")
	fl.StringVar(&o.TLS.CA, "tls-ca", "", "CA certificate file that clients' certificates must come from")
	fl.IntVar(&o.Clients, "clients", 64, "clients at once")
	fl.IntVar(&o.Together, "batch", 16, "questions that the model answers at once, where so many have come")
	fl.Int64Var(&mib, "max-message", 32, "MiB of an observation, at most")
	fl.Float64Var(&o.Rate, "rate", 0, "questions a second of a client; who asks more often waits; 0: no limit")
	fl.IntVar(&threads, "threads", runtime.GOMAXPROCS(0), "compute threads")
	logFlags(c, &l)
	return c
}
