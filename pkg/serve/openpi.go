package serve

import (
	"bytes"
	"errors"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/vlaring/vlaring/pkg/trained"
)

// newEncoder writes structs under their names in JSON.
func newEncoder(to *bytes.Buffer) *msgpack.Encoder {
	e := msgpack.NewEncoder(to)
	e.SetCustomStructTag("json")
	e.UseCompactInts(true)
	return e
}

// encodeCard is the message that a client is met with.
func encodeCard(c trained.Card) ([]byte, error) {
	var b bytes.Buffer
	err := newEncoder(&b).Encode(c)
	return b.Bytes(), err
}

// reply is what an answer says beside its actions.
type reply struct {
	chunk    trained.Chunk
	shape    []int // [chunk, values]
	notes    []string
	infer    time.Duration // from the whole question to its answer
	previous time.Duration // from the whole question before to its answer's last byte; 0: this is the first
}

// encodeReply is an answer's message.
func encodeReply(r reply) ([]byte, error) {
	var b bytes.Buffer
	e := newEncoder(&b)
	keys := 2
	if len(r.notes) > 0 {
		keys++
	}
	err := errors.Join(e.EncodeMapLen(keys),
		e.EncodeString("actions"), encodeArray(e, r.chunk, r.shape),
		e.EncodeString("server_timing"))
	if r.previous > 0 {
		err = errors.Join(err, e.EncodeMapLen(2), e.EncodeString("infer_ms"), e.EncodeFloat64(ms(r.infer)), e.EncodeString("prev_total_ms"), e.EncodeFloat64(ms(r.previous)))
	} else {
		err = errors.Join(err, e.EncodeMapLen(1), e.EncodeString("infer_ms"), e.EncodeFloat64(ms(r.infer)))
	}
	if len(r.notes) > 0 {
		err = errors.Join(err, e.EncodeString("notes"), e.Encode(r.notes))
	}
	return b.Bytes(), err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
