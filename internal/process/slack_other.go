//go:build !linux

package process

// RelaxTimers does nothing where threads have no slack.
func RelaxTimers() {}
