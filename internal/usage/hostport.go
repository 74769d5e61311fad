package usage

import (
	"net"
	"strconv"

	"github.com/vlaring/vlaring/internal/netaddr"
)

// HostPort reads the value of a flag that says where to listen; without a host
// that is on all addresses.
func HostPort(flag, s string) (string, int, error) {
	h, p, err := net.SplitHostPort(s)
	if err == nil {
		var n int
		if n, err = strconv.Atoi(p); err == nil && n >= 1 && n <= 65535 {
			if h == "" {
				h = netaddr.All()
			}
			return h, n, nil
		}
	}
	return "", 0, Errorf("%s %q: want host:port, e.g. 0.0.0.0:4222", flag, s)
}
