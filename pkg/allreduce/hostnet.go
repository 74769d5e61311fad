package allreduce

import (
	"context"
	"net"
)

// HostNetwork is a Network of its own between hosts, made anew for each generation,
// where cluster.road names one. Until Form, and where a peer cannot be reached, it
// carries frames over its End's Fallback. Package stream is one.
type HostNetwork interface {
	Network
	// Form begins a generation: it gives the peers of the one before up, and reaches
	// out for these, by name. It returns when all have been tried, or with ctx, and
	// names those that frames go to over the fallback.
	Form(ctx context.Context, generation uint64, peers map[string]Peer) (unreached map[string]error)
}

// Peer is the other end of a direct connection.
type Peer struct {
	Address string // where it listens; empty: nowhere, but it may reach out
	Secret  []byte // of this generation, which these two know and nobody else
}

// End is what a member's end of a HostNetwork is made of.
type End struct {
	Member   string
	Listener net.Listener      // of TCP, at the address that peers are told; closed with the network
	Fallback Network           // closed with the network
	Encrypt  bool              // as all members do, or none
	Event    func(text string) // told what a user may want to know; must not block
}
