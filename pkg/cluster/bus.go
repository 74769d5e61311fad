package cluster

import "context"

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
	// on subject, until unsubscribe is called. The reply func is nil where no reply
	// is wanted. data is h's to keep. h must not block for long: it delays the
	// subscription's later messages.
	Subscribe(subject string, h func(data []byte, reply func([]byte) error)) (unsubscribe func() error, err error)
}
