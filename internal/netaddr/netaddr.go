// Package netaddr says which addresses of this machine others reach it by.
package netaddr

import (
	"net"
	"strings"
)

// Remote addresses of documentation, one a family: asked for, they show which
// address of this machine leads out.
const (
	outside4 = "192.0.2.1:9"
	outside6 = "[2001:db8::1]:9"
)

// Reached are the hosts by which one that is listened on is reached, the first
// of them the best: of all addresses that of the default route, by IPv4 where
// there is any.
func Reached(host string) []string {
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsUnspecified() {
		return []string{host}
	}
	var l []string
	if a := outward(outside4); a != "" {
		l = append(l, a)
	}
	if ip.To4() == nil {
		if a := outward(outside6); a != "" {
			l = append(l, a)
		}
	}
	switch {
	case len(l) > 0:
		return l
	case ip.To4() != nil:
		return []string{"127.0.0.1"}
	}
	return []string{Loopback()}
}

// outward is the address that this machine would reach a remote one from, or,
// where no route leads there, one of the same family that others on its network
// may reach; empty where it has none.
func outward(remote string) string {
	if a := route(remote); a != "" {
		return a
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if ok && n.IP.IsGlobalUnicast() && (n.IP.To4() != nil) == (remote == outside4) {
			return n.IP.String()
		}
	}
	return ""
}

// route asks the routing table for the address that leads to a remote one:
// connecting a UDP socket sends no packet.
func route(remote string) string {
	c, err := net.Dial("udp", remote)
	if err != nil {
		return ""
	}
	defer c.Close()
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok && !a.IP.IsUnspecified() {
		return a.IP.String()
	}
	return ""
}

// Local is the address of this machine from which a server of url, or a
// host:port, is reached.
func Local(where string) string {
	where, _, _ = strings.Cut(where, ",")
	if _, rest, ok := strings.Cut(where, "://"); ok {
		where = rest
	}
	if _, _, err := net.SplitHostPort(where); err != nil {
		where = net.JoinHostPort(where, "4222")
	}
	return Leading(where)
}

// Leading is the address that leads to another host, a host:port.
func Leading(remote string) string {
	if a := route(remote); a != "" {
		return a
	}
	return Loopback()
}

// Loopback is this machine's address for itself: of a host without IPv4 that of IPv6.
func Loopback() string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err == nil {
		l.Close()
		return "127.0.0.1"
	}
	if l, err = net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		return "::1"
	}
	return "127.0.0.1"
}

// All is the host to listen on where none is named: all addresses, of
// IPv4 unless the machine only has others.
func All() string {
	if outward(outside4) == "" && outward(outside6) != "" {
		return "::"
	}
	return "0.0.0.0"
}
