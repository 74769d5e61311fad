//go:build !linux

package run

// LowPriority does nothing: the system has no priorities by thread.
func LowPriority() {}
