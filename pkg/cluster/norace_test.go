//go:build !race

package cluster

import "os"

// crowd is how many workers the largest simulation has, seeds how many smaller ones there
// are. What a crowd costs grows with more than its square; VLARING_LONG=1 pays for it.
var crowd, seeds = func() (int, int) {
	if os.Getenv("VLARING_LONG") != "" {
		return 512, 500
	}
	return 128, 100
}()
