package cluster_test

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/cluster/bustest"
)

func TestMemBus(t *testing.T) {
	bustest.Run(t, func(*testing.T) cluster.Bus { return cluster.NewMemBus() })
}
