// Package natsbus puts a job on NATS: it is the only package that knows of it.
//
//	broker, err := natsbus.StartBroker(natsbus.BrokerOptions{})
//	conn, err := natsbus.Connect(ctx, broker.URL(), natsbus.Credentials{Token: broker.Token()},
//		natsbus.ConnOptions{Job: "bridge", Member: "w0"})
//	bus := conn.Bus()              // small control messages: cluster.Bus
//	net, err := conn.Network()     // the ring's frames: allreduce.Network
//	blobs, err := conn.Blobs(nil)  // checkpoints, samples: the receiver pulls
//
// Subjects of a job, with the names of its members as last tokens:
//
//	vlaring.<job>.coordinator      control, to the coordinator   (package cluster)
//	vlaring.<job>.worker.<id>      control, to a worker          (package cluster)
//	vlaring.<job>.ring.<id>        frames, as raw payload        (package allreduce)
//	vlaring.<job>.blob.<member>    requests for a member's blobs (wire.go)
//
// A Conn is two connections of nats.go, one for control and one for blobs, and
// its Network is a third that is our own. Long messages are written under their
// connection's lock, so in a partition they would hold up heartbeats; and a
// server that cuts a slow reader off cuts all that the connection carries.
//
// The third speaks as much of NATS's protocol as frames need (proto.go,
// ringlink.go), to any server that nats.go speaks to and with the same
// credentials: nats.go would copy each frame on both ways and leave it as
// garbage.
//
// Core NATS is at most once. Whatever must arrive is repeated by those who
// know when it is missing: frames by allreduce's links, chunks of blobs by the
// one who fetches, control by package cluster. A broker may therefore stop and
// come back at its address, and everything in progress goes on.
//
// The owner of a Conn closes what it got from it, or the Conn, which closes
// all. Event funcs are called from NATS's goroutines and must not block.
package natsbus
