//go:build !race

package cluster

import "os"

// crowd is how many workers the largest simulation has. What it costs grows with more
// than their square, so the 512 are for VLARING_LONG=1.
var crowd = func() int {
	if os.Getenv("VLARING_LONG") != "" {
		return 512
	}
	return 128
}()
