//go:build !linux

package run

func lowPriority() {}
