//go:build amd64 && !linux && !noasm

package kernel

// tilesAllowed: how to ask is known of Linux alone.
func tilesAllowed() bool { return false }
