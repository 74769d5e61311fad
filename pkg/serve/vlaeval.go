package serve

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/vlaring/vlaring/pkg/trained"
)

// vlaEval is the protocol of vla-eval (PyPI, 0.8.0), whose one client reaches LIBERO,
// SimplerEnv, CALVIN, RoboCasa and more. Every message is a map {type, payload, seq,
// timestamp}. The client says hello and is told what the server sees and answers;
// then it sends an observation at every step, and is answered with one action of the
// same seq. A chunk is replayed here, so that most observations want no run of the
// model. An error is a message, and the connection goes on.
//
//	client   hello  episode_start  observation  observation …  episode_end  episode_start …
//	server   hello                 action       action
var vlaEval = protocol{
	name:  "vla-eval",
	check: func(o Options, n names) error { _, _, err := specsOf(o.Spec, n); return err },
	begin: func(s *Server) (session, error) {
		c := &vlaSession{names: s.names, plan: s.plan}
		for _, x := range s.card.Observation {
			if x.Frames > 1 {
				c.times = append(c.times, x)
			}
		}
		var err error
		c.hello, err = helloOf(s.o.Spec, s.names)
		return c, err
	},
}

// What vla-eval's benchmarks call things that training data has other names for.
var vlaNames = map[string]string{"task_description": "prompt", "states": "state"}

// vlaRestart is the key by which a benchmark says that its robot begins anew within
// an episode: CALVIN's next task of a row.
const vlaRestart = "episode_restart"

type vlaSession struct {
	names names
	plan  plan
	hello any                   // payload
	times []trained.CardFeature // of which the policy sees several times

	seq  int64                 // of the last message
	past []trained.Observation // of the episode's last steps, the newest last; for c.times
	left []string              // of the last observation: names that the policy does not look at
	said string                // what of it the log has
}

func (c *vlaSession) greeting() []byte { return nil }

func (c *vlaSession) hear(message []byte) (h heard, err error) {
	c.seq, c.left = 0, nil
	m, err := decodeMessage(message)
	if err != nil {
		return h, err
	}
	kind, isText := m.find("type").(string)
	payload, isMap := m.find("payload").(fields)
	seq, isNumber := m.find("seq").(float64)
	if !isText || !isMap || !isNumber || seq != math.Trunc(seq) || math.Abs(seq) > 1<<53 {
		return h, errors.New("a message wants type (a text), payload (a map), seq (a whole number) and timestamp: does the client speak vla-eval's protocol?")
	}
	c.seq = int64(seq)
	switch kind {
	case "hello":
		if v := payload.find("protocol_version"); v != 1.0 {
			h.news = fmt.Sprintf("speaks version %v of vla-eval's protocol, and this server 1", v)
		}
		h.back, err = encodeMessage("hello", c.seq, time.Now(), func(e *msgpack.Encoder) error { return e.Encode(c.hello) })
		return h, err
	case "episode_start":
		c.reset()
		if task, ok := payload.find("task").(fields); ok {
			name, _ := task.find("name").(string)
			h.news = fmt.Sprintf("an episode begins: %.200q", name)
		}
		return h, nil
	case "episode_end":
		c.reset()
		return h, nil
	case "error":
		text, _ := payload.find("error").(string)
		h.news = fmt.Sprintf("the client has an error: %.500q", text)
		return h, nil
	case "observation":
		return c.observed(payload)
	}
	return h, fmt.Errorf("a message of type %.80q; want hello, episode_start, observation, episode_end or error", kind)
}

func (c *vlaSession) reset() {
	c.plan.reset()
	c.past = nil
}

// observed is an observation: an action that is there already, or what to ask.
func (c *vlaSession) observed(payload fields) (h heard, err error) {
	payload, anew := payload.without(vlaRestart)
	if anew {
		c.reset()
	}
	if !c.plan.due() && len(c.times) == 0 {
		h.back, err = c.action()
		return h, err
	}
	o := trained.Observation{}
	if err := payload.observe(o, "", c.called); err != nil {
		return h, err
	}
	if said := strings.Join(c.left, ", "); said != "" && said != c.said {
		c.said = said
		h.news = "sends, and the policy does not look at: " + said
	}
	if len(c.times) > 0 {
		c.past = append(c.past, o)
		c.past = c.past[max(0, len(c.past)-slices.MaxFunc(c.times, func(a, b trained.CardFeature) int { return a.Frames - b.Frames }).Frames):]
	}
	if !c.plan.due() {
		h.back, err = c.action()
		return h, err
	}
	h.ask, err = c.joined(o)
	return h, err
}

// called is what the policy calls a benchmark's name; empty for what it does not look
// at, as benchmarks send what they have.
func (c *vlaSession) called(name string) string {
	as := c.names.called(name)
	if alias := vlaNames[name]; as == name && alias != "" && !c.names.known(name) && c.names.known(alias) {
		as = alias
	}
	switch at := c.names.card.Features(as); len(at) {
	case 0:
		c.left = append(c.left, name)
		return ""
	case 1:
		return at[0]
	}
	return as // the policy names what it can be
}

// joined is o with the steps before it, where the policy sees several.
func (c *vlaSession) joined(o trained.Observation) (trained.Observation, error) {
	o = maps.Clone(o) // what is past stays of one time
	for _, x := range c.times {
		var g trained.Given
		for _, before := range c.past[max(0, len(c.past)-x.Frames):] {
			one, ok := before[x.Name]
			if !ok {
				return nil, fmt.Errorf("%s was not in each of the last %d observations, all of which the policy sees", x.Name, x.Frames)
			}
			g.Times = append(g.Times, one)
		}
		o[x.Name] = g
	}
	return o, nil
}

func (c *vlaSession) tell(t told) ([]byte, error) {
	c.plan.add(t.chunk)
	return c.action()
}

// action is the message of the next step's action.
func (c *vlaSession) action() ([]byte, error) { return encodeAction(c.plan.take(1), c.seq, time.Now()) }

func encodeAction(action trained.Chunk, seq int64, now time.Time) ([]byte, error) {
	return encodeMessage("action", seq, now, func(e *msgpack.Encoder) error {
		return errors.Join(e.EncodeMapLen(1), e.EncodeString("actions"), encodeArray(e, textKeys, action, []int{len(action)}))
	})
}

func (c *vlaSession) fail(err error) (websocket.MessageType, []byte, bool) {
	text := err.Error()
	if len(c.left) > 0 {
		text += fmt.Sprintf("; the client also sent %s (serve --rename %s=NAME gives one the policy's name)", strings.Join(c.left, ", "), c.left[0])
	}
	b, wrong := encodeError(text, c.seq, time.Now())
	if wrong != nil {
		return websocket.MessageText, []byte(wrong.Error()), false
	}
	return websocket.MessageBinary, b, true
}

func encodeError(text string, seq int64, now time.Time) ([]byte, error) {
	return encodeMessage("error", seq, now, func(e *msgpack.Encoder) error { return e.Encode(map[string]string{"error": text}) })
}

func encodeMessage(kind string, seq int64, now time.Time, payload func(e *msgpack.Encoder) error) ([]byte, error) {
	var b bytes.Buffer
	e := newEncoder(&b)
	err := errors.Join(e.EncodeMapLen(4),
		e.EncodeString("type"), e.EncodeString(kind),
		e.EncodeString("payload"), payload(e),
		e.EncodeString("seq"), e.EncodeInt(seq),
		e.EncodeString("timestamp"), e.EncodeFloat64(float64(now.UnixMicro())/1e6))
	return b.Bytes(), err
}
