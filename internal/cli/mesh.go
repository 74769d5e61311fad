package cli

import (
	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/transport"
)

// meshFlags say how a worker's own broker meets the others.
type meshFlags struct {
	join   string
	listen string
}

func (f *meshFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.join, "mesh", "", "host:port for brokers of a coordinator whose job has cluster.topology mesh: run a broker here that joins it, in place of --nats")
	fl.StringVar(&f.listen, "mesh-listen", "", "host:port on which other workers reach this one's broker (default: the address that leads to the coordinator, a free port)")
}

// start starts a worker's broker.
func (f *meshFlags) start(job string, creds transport.Credentials, event func(string)) (transport.Host, error) {
	if creds.Key != nil {
		return nil, usagef("--mesh wants the job's token: each broker of a mesh is trusted with all that the job says, and a key is for one worker alone")
	}
	if creds.Token == "" {
		return nil, usagef("--mesh wants the job's token, by --token-file or the environment's %s, and no other credentials", tokenEnv)
	}
	routes := &transport.Routes{Join: []string{f.join}}
	if _, _, err := usage.HostPort("--mesh", f.join); err != nil {
		return nil, err
	}
	if f.listen != "" {
		var err error
		if routes.Host, routes.Port, err = usage.Listen("--mesh-listen", f.listen); err != nil {
			return nil, err
		}
	}
	return transport.NATS{}.Host(transport.HostOptions{Job: job, Token: creds.Token, TLS: creds.TLS, Routes: routes, Event: event})
}
