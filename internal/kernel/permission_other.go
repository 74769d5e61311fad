//go:build !amd64 || !linux || noasm

package kernel

// Refused is the error of a system that refuses tiles (AMX) which the CPU has; nil: there are none, or they may be used.
func Refused() error { return nil }
