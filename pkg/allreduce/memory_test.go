package allreduce_test

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/nettest"
)

func TestMemNetwork(t *testing.T) {
	nettest.Run(t, func(t *testing.T, members []string) []allreduce.Network {
		return join(allreduce.NewMemNetwork(allreduce.Faults{}), members)
	})
}

func join(hub *allreduce.MemNetwork, members []string) []allreduce.Network {
	nets := make([]allreduce.Network, len(members))
	for i, m := range members {
		nets[i] = hub.Join(m)
	}
	return nets
}
