// Package serve makes a policy server of a checkpoint: robots and simulators
// connect by websocket, send what they see, and are answered with actions.
//
//	s, err := serve.New(policy, serve.Options{Listen: "127.0.0.1:8000"})
//	err = s.Run(ctx) // until ctx ends; then what is asked is answered, and clients are told
//
//	client ──observation──> talk ──> Policy.Read ──> asks ─┐   a goroutine each
//	                                                       ├─> Policy.Answer, one goroutine
//	client ──observation──> talk ──> Policy.Read ──> asks ─┘   what has come meanwhile goes together
//
// The protocol is openpi's (docs/formats.md): its public client works unchanged.
//
// # Invariants
//
//   - An answer depends on its observation alone: not on who asks, when, or together
//     with whom.
//   - A client has one question under way, so that no more wait than there are clients.
//   - A client that sends or reads slowly holds up nobody: it is read and written by
//     its own goroutine, under deadlines, and the model runs on whole questions alone.
//   - What comes from a client is bounded before it is allocated: message, depth,
//     keys, pixels.
package serve
