package netaddr

import (
	"net/url"
	"strconv"
)

// Port is the port of a URL, 0 for none.
func Port(s string) int {
	u, err := url.Parse(s)
	if err != nil {
		return 0
	}
	p, _ := strconv.Atoi(u.Port())
	return p
}
