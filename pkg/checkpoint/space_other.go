//go:build !(linux || darwin)

package checkpoint

// freeSpace is not known here: a disk that is full says so when it is written to.
func freeSpace(string) (Space, error) { return Space{}, nil }
