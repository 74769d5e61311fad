//go:build !linux

package cli

func lowPriority() {}
