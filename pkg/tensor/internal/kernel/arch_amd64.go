//go:build amd64 && !noasm

package kernel

func archLevels() []Level { return nil }

func archUse(Level) {}

var vec *vectorOps
