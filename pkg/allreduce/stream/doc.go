// Package stream carries a ring's frames from host to host over TCP, without a
// broker between: the road that cluster.road direct takes between hosts.
//
// A member listens, and tells the others its address over NATS (Join and
// Assign). For each generation it is given the addresses of its peers and a secret
// for each, dials those, and sends each its frames on one connection; what comes
// in, comes in on connections that peers have dialled. A peer that cannot be
// reached, or whose connection breaks, is sent to over the fallback, which is
// the ring's NATS network, and dialled again. So a direct road that a firewall
// closes costs speed and nothing else.
//
// Both ends prove that they know the secret of the two, which nobody else is told,
// before a frame is read; so no member can pass for another one:
//
//	dialler   "VLRSTR01", generation, its name, the peer's, a nonce
//	listener  a nonce, HMAC("listener", …)
//	dialler   HMAC("dialler", …)
//	dialler   u32 length, frame; u32 length, frame; …
//
// Where the job's NATS speaks TLS so do streams. Their certificates are made
// for the occasion and prove nothing; the two HMACs cover keying material of
// the TLS session, so that whoever stands between can prove nothing either.
package stream
