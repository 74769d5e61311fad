//go:build !linux

package chaos

// Elsewhere orphans cannot be found: workers whose coordinator was killed end by
// themselves, when their server has been away for cluster.orphan_timeout.

func adoptOrphans() error { return nil }

func killDescendants(int) {}

func killMarked(name, value string) {}
