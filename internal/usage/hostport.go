package usage

import (
	"net"
	"strconv"

	"github.com/vlaring/vlaring/internal/netaddr"
)

// HostPort reads the value of a flag that says where something listens; without a host
// it is every address of this machine.
func HostPort(flag, s string) (string, int, error) { return hostPort(flag, s, 1) }

// Listen is HostPort for a flag that says where to listen: port 0 is a free one.
func Listen(flag, s string) (string, int, error) { return hostPort(flag, s, 0) }

func hostPort(flag, s string, least int) (string, int, error) {
	h, p, err := net.SplitHostPort(s)
	if err == nil {
		var n int
		if n, err = strconv.Atoi(p); err == nil && n >= least && n <= 65535 {
			if h == "" {
				h = netaddr.All()
			}
			return h, n, nil
		}
	}
	return "", 0, Errorf("%s %q: want host:port, e.g. 0.0.0.0:4222", flag, s)
}
