package usage

import (
	"errors"
	"net"
	"strconv"
	"syscall"

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

// Bind listens by TCP where a flag says, with Listen's rules. Its error says what to give
// instead.
func Bind(flag, s string) (net.Listener, error) {
	host, port, err := Listen(flag, s)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, Errorf("%s cannot listen on %s: %w%s", flag, s, err, instead(err))
	}
	return l, nil
}

// instead says what to give in place of an address that cannot be listened on.
func instead(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "\nanother program listens there: choose another port, or 0 for a free one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "\nthat is none of this machine's addresses; 0.0.0.0 is all of them, 127.0.0.1 its own"
	case errors.Is(err, syscall.EACCES):
		return "\nports below 1024 want more rights: choose a higher one, or 0 for a free one"
	}
	return ""
}
