package run

import (
	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// quiet is a Screen that nobody looks at.
type quiet struct{}

var _ Screen = quiet{}

func (quiet) Event(string, string, map[string]any)    {}
func (quiet) Script(string, map[string]any)           {}
func (quiet) Say(string)                              {}
func (quiet) Step(Metrics)                            {}
func (quiet) Members(cluster.Phase, []cluster.Member) {}
func (quiet) Saved(uint64)                            {}
func (quiet) Standing() (uint64, string)              { return 0, "-" }
func (quiet) Close()                                  {}
func (quiet) Log() (*zap.Logger, error)               { return zap.NewNop(), nil }
