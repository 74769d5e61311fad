//go:build (!amd64 && !arm64) || noasm

package kernel

// archUse has nothing to switch: without assembly every level is plain Go.
func archUse(Level) {}

// vec is nil where there is no assembly; see arch_amd64.go and arch_arm64.go.
var vec *vectorOps

func vectorOf(Level) *vectorOps { return nil }

// til is nil: products of bfloat16 are plain Go.
var til *tileOps

func tilesOf(Level) *tileOps { return nil }
