// Package serve makes a policy server of a checkpoint: robots and simulators
// connect by websocket, send what they see, and are answered with actions.
//
//	s, err := serve.New(policy, serve.Options{Listen: "127.0.0.1:8000"})
//	err = s.Run(ctx) // until ctx ends; then what is asked is answered, and clients are told
//
//	client ──message──> talk ──> session ──> Policy.Read ──> asks ─┐   a goroutine each
//	                                                               ├─> Policy.Answer, one goroutine
//	client ──message──> talk ──> session ──> Policy.Read ──> asks ─┘   what has come meanwhile goes together
//
// What messages mean is said by a protocol's session, without I/O: openpi's or
// vla-eval's (docs/formats.md), whose public clients work unchanged. Which of a
// chunk's actions are done, and when the next question is due, is a plan.
//
// # Invariants
//
//   - A chunk depends on its observation alone: not on who asks, when, or together
//     with whom. An answer depends on nothing but the connection's own observations.
//   - A client has one question under way, so that no more wait than there are clients.
//   - A client that sends or reads slowly holds up nobody: it is read and written by
//     its own goroutine, under deadlines, and the model runs on whole questions alone.
//   - What comes from a client is bounded before it is allocated: message, depth,
//     keys, pixels.
package serve
