package cluster

import "context"

// Handler takes a message: see Bus.Subscribe.
type Handler func(from string, data []byte, reply func([]byte) error)

// Bus carries control messages between the coordinator and the workers of a
// job: small, at most once. NATS implements it; MemBus is its twin for tests.
type Bus interface {
	// Publish sends data to every subscriber of subject, and does not wait for any
	// of them. It keeps no reference to data.
	Publish(subject string, data []byte) error
	// Request sends data and waits for one reply, or the end of ctx.
	// ErrNoResponder says that there is no subscriber of subject at present. It does
	// not try again: its callers do.
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
	// Subscribe calls h, one message at a time and in order, for each message
	// on subject, until unsubscribe is called. Where the last word of subject is "*",
	// it stands for any word; from is that word of the message's subject, or the
	// last one. The reply func is nil where no reply is wanted. data is h's to keep. h
	// must not block for long: it delays the subscription's later messages.
	Subscribe(subject string, h Handler) (unsubscribe func() error, err error)
}
