//go:build !linux

package cli

// RelaxTimers does nothing where threads have no slack.
func RelaxTimers() {}
