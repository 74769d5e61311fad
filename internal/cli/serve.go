package cli

import (
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/access"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/serve"
)

// keyEnv holds the key that clients of a server show, where no --key-file is given.
const keyEnv = "VLARING_KEY"

func newServe() *cobra.Command {
	var dir, keyFile, weights, set string
	var threads int
	var depth eval.Depth
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

With --protocol vla-eval, vla-eval's client and so its benchmarks (LIBERO,
SimplerEnv, CALVIN, …) are answered, unchanged: one action an observation, of a
chunk that is replayed here. --rename gives their cameras the policy's names, and
--spec says the conventions that they compare before the first step.

Equal observations get equal actions, to the last bit, alone or together with
others; with --ensemble, equal rows of observations. GET /healthz and /health
answer, GET /metrics counts. SIGTERM and Ctrl-C answer what is under way, tell the
clients, and end.

Without --key-file or --tls-cert the server listens on this machine's own
addresses alone. A key can also be in the environment's ` + keyEnv + `.`,
		Example: "  coordinator serve --checkpoint runs/metaworld\n  coordinator serve --checkpoint runs/metaworld --listen 0.0.0.0:8000 --key-file key\n" +
			"  coordinator serve --checkpoint runs/libero --protocol vla-eval --execute 8 --rename agentview=observation.images.image --rename wrist=observation.images.wrist_image",
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			log, err := l.Logger(c.ErrOrStderr())
			if err != nil {
				return err
			}
			o.Key, o.Log, o.Message = os.Getenv(keyEnv), log.Sugar().Infof, mib<<20
			if keyFile != "" {
				if o.Key, err = access.Secret("key", "move the robot", keyFile, func(text string) { log.Warn(text) }); err != nil {
					return err
				}
			}
			m, err := loadWeights(dir, weights, set)
			if err != nil {
				return err
			}
			defer m.Close()
			p, err := m.Policy(threads)
			if err != nil {
				return err
			}
			defer p.Close()
			if err := p.SetDepth(depth); err != nil {
				return err
			}
			s, err := serve.New(p, o)
			if err != nil {
				return err
			}
			sayWeights(c.ErrOrStderr(), m.Said())
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
	fl.StringVar(&o.Protocol, "protocol", "openpi", "what clients speak: "+strings.Join(serve.Protocols(), " or "))
	fl.IntVar(&o.Execute, "execute", 0, "actions of a chunk that are done before the next question; 0: all, with --ensemble 1")
	fl.BoolVar(&o.Ensemble, "ensemble", false, "join the actions of all chunks that reach a step, as ACT does (weights exp(-0.01 i), i = 0 the oldest)")
	fl.StringArrayVar(&o.Rename, "rename", nil, "FROM=TO: what clients call FROM is the policy's TO; may be given several times")
	fl.StringVar(&o.Spec, "spec", "", "of --protocol vla-eval: conventions that the data does not say, as position=delta_xyz,rotation=axis_angle,gripper=binary_close_positive,state=…")
	fl.StringVar(&keyFile, "key-file", "", "file with a key that clients show: Authorization: Api-Key KEY, or ws://any:KEY@host")
	fl.StringVar(&o.TLS.Cert, "tls-cert", "", "own certificate file")
	fl.StringVar(&o.TLS.Key, "tls-key", "", "own key file")
	fl.StringVar(&o.TLS.CA, "tls-ca", "", "CA certificate file that clients' certificates must come from")
	fl.IntVar(&o.Clients, "clients", 64, "clients at once")
	fl.IntVar(&o.Together, "batch", 16, "questions that the model answers at once, where so many have come")
	fl.Int64Var(&mib, "max-message", 32, "MiB of an observation, at most")
	fl.Float64Var(&o.Rate, "rate", 0, "questions a second of a client; who asks more often waits; 0: no limit")
	depthFlags(c, &depth)
	threadsFlag(c, &threads, machine.Threads(), "compute threads")
	logFlags(c, &l)
	return c
}
