package serve

import (
	"bytes"
	"errors"
	"time"

	"github.com/coder/websocket"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/trained"
)

// openpi is the protocol of openpi's websocket_policy_server and of its client: the
// server sends its card, then each message is an observation, and its answer a
// chunk of actions. An error is a text, with which the connection ends.
var openpi = protocol{
	name: "openpi",
	check: func(o Options, _ names) error {
		if o.Spec != "" {
			return usage.Errorf("--spec is what vla-eval's clients compare; give it with --protocol vla-eval")
		}
		return nil
	},
	begin: func(s *Server) (session, error) {
		greeting, err := encodeGreeting(s.card, s.o.Execute, s.plan)
		return &openpiSession{card: greeting, names: s.names, plan: s.plan}, err
	},
}

// restart is the key by which a client of openpi's says that an episode begins: only
// an ensemble has a past to forget.
const restart = "reset"

type openpiSession struct {
	card  []byte
	names names
	plan  plan
}

func (c *openpiSession) greeting() []byte { return c.card }

func (c *openpiSession) hear(message []byte) (heard, error) {
	m, err := decodeMessage(message)
	if err != nil {
		return heard{}, err
	}
	if !c.names.known(restart) {
		var anew bool
		if m, anew = m.without(restart); anew {
			c.plan.reset()
		}
	}
	o := trained.Observation{}
	return heard{ask: o}, m.observe(o, "", c.names.called)
}

func (c *openpiSession) tell(t told) ([]byte, error) {
	c.plan.add(t.chunk)
	return encodeReply(c.plan.take(c.plan.execute), []int{c.plan.execute, c.plan.values}, t)
}

func (c *openpiSession) fail(err error) (websocket.MessageType, []byte, bool) {
	return websocket.MessageText, []byte(err.Error()), false
}

// newEncoder writes structs under their names in JSON.
func newEncoder(to *bytes.Buffer) *msgpack.Encoder {
	e := msgpack.NewEncoder(to)
	e.SetCustomStructTag("json")
	e.UseCompactInts(true)
	return e
}

// encodeGreeting is the message that a client is met with: the card, and what the
// server was told to make of a chunk.
func encodeGreeting(card trained.Card, execute int, p plan) ([]byte, error) {
	type served struct {
		trained.Card
		Execute  int  `json:"execute,omitempty"`
		Ensemble bool `json:"ensemble,omitempty"`
	}
	g := served{Card: card}
	if execute > 0 || p.ensemble {
		g.Execute, g.Ensemble = p.execute, p.ensemble
	}
	var b bytes.Buffer
	err := newEncoder(&b).Encode(g)
	return b.Bytes(), err
}

// encodeReply is an answer's message.
func encodeReply(actions trained.Chunk, shape []int, r told) ([]byte, error) {
	var b bytes.Buffer
	e := newEncoder(&b)
	keys := 2
	if len(r.notes) > 0 {
		keys++
	}
	err := errors.Join(e.EncodeMapLen(keys),
		e.EncodeString("actions"), encodeArray(e, binaryKeys, actions, shape),
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
