package serve

import (
	"bytes"
	"fmt"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/vlaring/vlaring/pkg/trained"
)

// arm is a policy in memory of two cameras, a state and an instruction. Its answer to
// its n-th question has the actions [100n, s], [100n+1, s], … of the state's first
// value s.
type arm struct {
	frames int // of everything but the instruction

	mu    sync.Mutex
	seen  []trained.Observation
	state map[*trained.Question]float32
	asked int
}

func (p *arm) Card() trained.Card {
	feature := func(name string, kind trained.FeatureKind, shape ...int) trained.CardFeature {
		return trained.CardFeature{Name: name, Kind: kind, Shape: shape, Frames: max(p.frames, 1)}
	}
	state := feature("observation.state", trained.Numbers, 3)
	state.Dimensions = []trained.Dimension{{Name: "x", Unit: "m", Low: -1, High: 2}, {Name: "y", Unit: "m", Low: -3, High: 1}, {Name: "grip", High: 1}}
	prompt := feature("prompt", trained.Words)
	prompt.Frames, prompt.Vocabulary = 0, []string{"drawer", "open"}
	return trained.Card{Format: "vlaring-card", Job: "arm", Chunk: 4,
		Actions: trained.CardFeature{Name: "action", Shape: []int{4, 2}, Dimensions: []trained.Dimension{{Name: "dx", Unit: "m", Low: -1, High: 1}, {Name: "grip", High: 1}}},
		Observation: []trained.CardFeature{feature("observation.images.image", trained.Picture, 4, 4, 3), feature("observation.images.wrist", trained.Picture, 4, 4, 3),
			state, prompt}}
}

func (p *arm) Read(o trained.Observation) (*trained.Question, []string, error) {
	for _, x := range p.Card().Observation {
		if _, ok := o[x.Name]; !ok {
			return nil, nil, fmt.Errorf("%s is missing", x.Name)
		}
	}
	g := o["observation.state"]
	if g.Times != nil {
		g = g.Times[len(g.Times)-1]
	}
	q := new(trained.Question)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == nil {
		p.state = map[*trained.Question]float32{}
	}
	p.state[q], p.seen = float32(g.Floats[0]), append(p.seen, o)
	return q, nil, nil
}

func (p *arm) Answer(qs []*trained.Question) (out []trained.Chunk, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range qs {
		var c trained.Chunk
		for i := range 4 {
			c = append(c, float32(100*p.asked+i), p.state[q])
		}
		p.asked++
		out = append(out, c)
	}
	return out, nil
}

// spoken is a message of vla-eval's client.
func spoken(t testing.TB, name string) []byte { return fixture(t, "vla-eval/"+name) }

func sessionOf(t *testing.T, p Policy, o Options) *vlaSession {
	t.Helper()
	o.Protocol = "vla-eval"
	s, err := New(p, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.speaks.begin(s)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*vlaSession)
}

// TestVLAEvalObservations guards that what vla-eval's client packs is read to the very
// bytes, each picture in its form, under the policy's names, and that the rest is
// left out and said once.
func TestVLAEvalObservations(t *testing.T) {
	pixels := make([]byte, 18)
	for i := range pixels {
		pixels[i] = byte(i)
	}
	for form, seq := range map[string]int64{"png": 3, "raw": 300, "jpeg": 70000} {
		c := sessionOf(t, &arm{}, Options{Rename: []string{"agentview=image"}})
		h, err := c.hear(spoken(t, "observation_"+form))
		if err != nil || c.seq != seq || h.news != "sends, and the policy does not look at: controller_states" {
			t.Fatalf("%s: %+v, seq %d, %v", form, h, c.seq, err)
		}
		if g := h.ask["prompt"]; g.Text != "open the drawer" || len(h.ask) != 4 {
			t.Errorf("%s: %v", form, h.ask)
		}
		if g := h.ask["observation.state"]; !reflect.DeepEqual(g, trained.Given{Floats: []float64{0.5, -1.25, 3}, Shape: []int{3}}) {
			t.Errorf("%s: %v", form, g)
		}
		for _, name := range []string{"observation.images.image", "observation.images.wrist"} {
			g := h.ask[name]
			switch form {
			case "raw":
				if !bytes.Equal(g.Bytes, pixels) || !slices.Equal(g.Shape, []int{2, 3, 3}) {
					t.Errorf("%s: %v", name, g)
				}
			case "png":
				m, err := png.Decode(bytes.NewReader(g.File))
				if err != nil {
					t.Fatal(err)
				}
				if r, _, b, _ := m.At(2, 1).RGBA(); r>>8 != 15 || b>>8 != 17 {
					t.Errorf("%s: %v", name, m.At(2, 1))
				}
			default:
				if m, err := jpeg.Decode(bytes.NewReader(g.File)); err != nil || m.Bounds().Dx() != 8 {
					t.Error(err)
				}
			}
		}
		if _, err := c.tell(told{chunk: make(trained.Chunk, 8)}); err != nil {
			t.Fatal(err)
		}
		c.plan.reset()
		if h, err = c.hear(spoken(t, "observation_"+form)); err != nil || h.news != "" {
			t.Errorf("%s, again: %q %v", form, h.news, err)
		}
	}

	m, err := decodeMessage(spoken(t, "observation_numbers"))
	if err != nil {
		t.Fatal(err)
	}
	got := trained.Observation{}
	if err := m.find("payload").(fields).observe(got, "", func(name string) string { return name }); err != nil {
		t.Fatal(err)
	}
	numbers := func(x ...float64) trained.Given { return trained.Given{Floats: x, Shape: []int{len(x)}} }
	want := trained.Observation{"i1": numbers(-1, 2), "i8": numbers(1 << 40), "u2": numbers(65535), "bool": numbers(1, 0), "f2": numbers(1.5, -4.76837158203125e-07), "f8": numbers(0.5, -1.25, 3),
		"scalar": numbers(0.25), "whole": numbers(-7), "flag": numbers(1), "film": {Bytes: slices.Concat(pixels, pixels), Shape: []int{2, 2, 3, 3}}, "float": numbers(1.5), "list": numbers(1, 2.5)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant\n%v", got, want)
	}
}

// TestVLAEvalAnswers guards that an action and an error are, byte for byte, what
// vla-eval's packer makes of them.
func TestVLAEvalAnswers(t *testing.T) {
	at := time.Unix(1700000000, 250e6)
	got, err := encodeAction(trained.Chunk{0.5, -1, 2, 0.1}, 300, at)
	if want := spoken(t, "action"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n%q\nwant\n%q", err, got, want)
	}
	got, err = encodeError("observation.state is missing", 70000, at)
	if want := spoken(t, "wrong"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n%q\nwant\n%q", err, got, want)
	}
}

// TestVLAEvalEpisodes guards what an episode does to a plan: it begins anew with
// episode_start, behind episode_end, and where an observation says so; and that an
// observation with a replayed action is not looked at.
func TestVLAEvalEpisodes(t *testing.T) {
	c := sessionOf(t, &arm{}, Options{Execute: 3, Rename: []string{"agentview=image"}})
	asks := func(name string) bool {
		t.Helper()
		h, err := c.hear(spoken(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if h.ask != nil {
			if _, err := c.tell(told{chunk: make(trained.Chunk, 8)}); err != nil {
				t.Fatal(err)
			}
		} else if strings.HasPrefix(name, "observation") && !bytes.Contains(h.back, []byte("actions")) {
			t.Errorf("%s: %q", name, h.back)
		}
		return h.ask != nil
	}
	var got []bool
	for _, name := range []string{"observation_png", "observation_raw", "observation_numbers", // what is replayed needs no camera
		"observation_png", "episode_start", "observation_png", "observation_png", "episode_end", "observation_png", "observation_png", "observation_restart", "error", "observation_png"} {
		got = append(got, asks(name))
	}
	want := []bool{true, false, false, true, false, true, false, false, true, false, true, false, false}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	h, _ := c.hear(spoken(t, "episode_start"))
	if h.back != nil || h.news != `an episode begins: "open the drawer"` {
		t.Errorf("%+v", h)
	}
	if h, _ = c.hear(spoken(t, "error")); h.back != nil || h.news != `the client has an error: "the simulator is gone"` {
		t.Errorf("%+v", h)
	}
}

// TestVLAEvalHistory guards that a policy of several times is shown the steps of the
// episode before, replayed ones too, and none of another episode's.
func TestVLAEvalHistory(t *testing.T) {
	c := sessionOf(t, &arm{frames: 3}, Options{Execute: 2})
	step := func(x float64) trained.Observation {
		t.Helper()
		b, err := msgpack.Marshal(map[string]any{"type": "observation", "seq": 1, "timestamp": 0.5, "payload": map[string]any{
			"images": map[string]any{"image": []byte{byte(x)}, "wrist": []byte{byte(x)}}, "state": []float64{x, 0, 0}, "prompt": "open"}})
		if err != nil {
			t.Fatal(err)
		}
		h, err := c.hear(b)
		if err != nil {
			t.Fatal(err)
		}
		if h.ask != nil {
			c.tell(told{chunk: make(trained.Chunk, 8)})
		}
		return h.ask
	}
	wants := [][]float64{{1}, nil, {1, 2, 3}, nil, {3, 4, 5}}
	for i, want := range wants {
		o := step(float64(i + 1))
		if (o == nil) != (want == nil) {
			t.Fatalf("step %d: %v", i, o)
		}
		for k, g := range o["observation.state"].Times {
			if g.Floats[0] != want[k] || o["observation.images.wrist"].Times[k].File[0] != byte(want[k]) {
				t.Errorf("step %d, time %d: %v, want %v", i, k, g.Floats[0], want[k])
			}
		}
		if got := len(o["observation.state"].Times); got != len(want) {
			t.Errorf("step %d: %d times, want %d", i, got, len(want))
		}
	}
	c.hear(spoken(t, "episode_start"))
	if o := step(9); len(o["observation.state"].Times) != 1 {
		t.Errorf("an episode's first: %v", o)
	}
	step(10)
	c.past[0] = trained.Observation{}
	b, _ := msgpack.Marshal(map[string]any{"type": "observation", "seq": 1, "timestamp": 0.5, "payload": map[string]any{"prompt": "open"}})
	if _, err := c.hear(b); err == nil || !strings.Contains(err.Error(), "observation.images.image was not in each of the last 3 observations") {
		t.Error(err)
	}
}

// simulator is vla-eval's client for tests.
type simulator struct {
	*robot
	seq int
}

func simulate(t testing.TB, url string) *simulator {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return &simulator{robot: &robot{t: t, conn: conn}}
}

// say sends a message and returns its seq.
func (s *simulator) say(kind string, payload map[string]any) int {
	s.seq++
	s.send(map[string]any{"type": kind, "payload": payload, "seq": s.seq, "timestamp": 0.5})
	return s.seq
}

// reply reads a message of the server, which must have that seq.
func (s *simulator) reply(seq int) (kind string, payload map[string]any, told string) {
	s.t.Helper()
	form, b, err := s.conn.Read(s.t.Context())
	var m struct {
		Type      string         `msgpack:"type"`
		Payload   map[string]any `msgpack:"payload"`
		Seq       int            `msgpack:"seq"`
		Timestamp float64        `msgpack:"timestamp"`
	}
	if err == nil {
		err = msgpack.Unmarshal(b, &m)
	}
	if err != nil || form != websocket.MessageBinary || m.Seq != seq || m.Timestamp < 1.7e9 {
		s.t.Errorf("a message of seq %d: %+v, %v", seq, m, err)
	}
	told, _ = m.Payload["error"].(string)
	return m.Type, m.Payload, told
}

// act asks for an action.
func (s *simulator) act(x float64) (action []float32, told string) {
	s.t.Helper()
	kind, payload, told := s.reply(s.say("observation", map[string]any{"state": []float64{x, 0, 0}, "images": map[string]any{"image": "x", "wrist": "x"}, "task_description": "open"}))
	if kind != "action" {
		return nil, told
	}
	array := payload["actions"].(map[string]any)
	if shape := fmt.Sprint(array["shape"], array["dtype"]); shape != "[2]<f4" {
		s.t.Error(shape)
	}
	return floats(array["data"].([]byte)), ""
}

// TestVLAEval guards a benchmark's way through a server: hello with the card, chunks
// that are replayed, errors that leave the connection open.
func TestVLAEval(t *testing.T) {
	_, url, stop := running(t, &arm{}, Options{Protocol: "vla-eval", Execute: 2})
	s := simulate(t, url)
	kind, hello, _ := s.reply(s.say("hello", map[string]any{"harness_version": "0.8.0", "protocol_version": 1}))
	card, _ := hello["card"].(map[string]any)
	if kind != "hello" || fmt.Sprintln(hello["protocol_version"], hello["model_server"], hello["capabilities"], hello["observation_params"]) != "1 vlaring map[] map[send_state:true send_wrist_image:true]\n" ||
		card["job"] != "arm" || strings.Contains(fmt.Sprint(card), "drawer") {
		t.Errorf("%s %v", kind, hello)
	}
	if got := fmt.Sprint(hello["observation_spec"]); !strings.Contains(got, "language:map[dims:0 format:language name:language]") || !strings.Contains(got, "wrist:map[") ||
		!strings.Contains(got, "state:map[description:x m, y m, grip dims:3 format:raw name:state range:[-3 2]]") {
		t.Error(got)
	}
	s.say("episode_start", map[string]any{"task": map[string]any{"name": "open"}})
	for i, want := range [][]float32{{0, 5}, {1, 5}, {100, 7}, {101, 7}, {200, 9}} {
		if got, told := s.act(float64(i + 5)); told != "" || !slices.Equal(got, want) {
			t.Errorf("step %d: %v %s, want %v", i, got, told, want)
		}
	}
	s.say("episode_end", map[string]any{})
	for want, m := range map[string]any{
		"observation.images.image is missing; the client also sent images/agentview (serve --rename images/agentview=NAME gives": map[string]any{"type": "observation", "seq": 77, "timestamp": 0.5,
			"payload": map[string]any{"images": map[string]any{"agentview": "x"}}},
		`a message of type "shutdown"; want hello`:            map[string]any{"type": "shutdown", "seq": 77, "timestamp": 0.5, "payload": map[string]any{}},
		`"state": a list with a text at 0; want numbers`:      map[string]any{"type": "observation", "seq": 77, "timestamp": 0.5, "payload": map[string]any{"state": []any{"x"}}},
		`"images/image": a picture of format "gif"`:           map[string]any{"type": "observation", "seq": 77, "payload": map[string]any{"images": map[string]any{"image": map[string]any{"__image__": true, "format": "gif"}}}},
		`"images/image": a picture wants data`:                map[string]any{"type": "observation", "seq": 77, "payload": map[string]any{"images": map[string]any{"image": map[string]any{"__image__": true, "format": "png"}}}},
		`"images/image": an array of shape [2 2] and dtype |`: map[string]any{"type": "observation", "seq": 77, "payload": map[string]any{"images": map[string]any{"image": map[string]any{"__image__": true, "format": "raw", "dtype": "|u1", "shape": []int{2, 2}, "data": []byte{1}}}}},
	} {
		s.send(m)
		if kind, _, told := s.reply(77); kind != "error" || !strings.Contains(told, want) {
			t.Errorf("%s: %q, want %q", kind, told, want)
		}
	}
	for want, m := range map[string][]byte{
		"the message ends early":      spoken(t, "action")[:50],
		"the message is a list":       fixture(t, "list"),
		"a message wants type (a tex": fixture(t, "hwc"), // of openpi's client
	} {
		s.conn.Write(t.Context(), websocket.MessageBinary, m)
		if kind, _, told := s.reply(0); kind != "error" || !strings.Contains(told, want) {
			t.Errorf("%s: %q, want %q", kind, told, want)
		}
	}
	s.conn.Write(t.Context(), websocket.MessageText, []byte("hello"))
	if kind, _, told := s.reply(0); kind != "error" || !strings.Contains(told, "a text message") {
		t.Error(kind, told)
	}
	if got, told := s.act(1); told != "" || got[0] != 300 {
		t.Errorf("behind the errors: %v %s", got, told)
	}
	go stop()
	if _, _, err := s.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Error(err)
	}
}

// TestManySimulators guards that 64 clients at once each get their own plan's actions.
func TestManySimulators(t *testing.T) {
	_, url, _ := running(t, &arm{}, Options{Protocol: "vla-eval", Execute: 3, Ensemble: true})
	var all sync.WaitGroup
	for i := range 64 {
		s := simulate(t, url)
		all.Go(func() {
			for k := range 12 {
				// the state is in all of a chunk: a mean of this client's alone is it again
				if got, told := s.act(float64(i)); told != "" || got[1] != float32(i) {
					t.Errorf("client %d, step %d: %v %s", i, k, got, told)
				}
			}
		})
	}
	all.Wait()
}

// TestVLAEvalFloods guards that a client that asks and reads nothing is ended by its
// deadline, and holds up nobody.
func TestVLAEvalFloods(t *testing.T) {
	lost := make(chan string, 1)
	_, url, _ := running(t, &arm{}, Options{Protocol: "vla-eval", Transfer: 200 * time.Millisecond, Log: func(f string, args ...any) {
		if text := fmt.Sprintf(f, args...); strings.Contains(text, "lost") {
			lost <- text
		}
	}})
	flood := simulate(t, url)
	go func() {
		hello, _ := msgpack.Marshal(map[string]any{"type": "hello", "payload": map[string]any{}, "seq": 1})
		for flood.conn.Write(t.Context(), websocket.MessageBinary, hello) == nil {
		}
	}()
	s := simulate(t, url)
	for {
		select {
		case <-lost:
			return
		default:
		}
		if got, told := s.act(3); told != "" || got[1] != 3 {
			t.Fatal(got, told)
		}
	}
}

// TestSpecs guards the conventions that vla-eval compares, and which are refused.
func TestSpecs(t *testing.T) {
	n, err := namesFor((&arm{}).Card(), []string{"agentview=observation.images.image"})
	if err != nil {
		t.Fatal(err)
	}
	actions, seen, err := specsOf("reach=delta_x:1,gripper=binary_close_positive,state=joint_positions", n)
	if err != nil || len(actions) != 2 || !reflect.DeepEqual(actions["reach"], dimSpec{"reach", 1, "delta_x", []float64{-1, 1}, "dx m"}) ||
		seen["state"].(dimSpec).Format != "joint_positions" || seen["agentview"].(dimSpec).Format != "rgb_hwc_uint8" {
		t.Errorf("%v %v %v", actions, seen, err)
	}
	for want, text := range map[string]string{
		"want PART=FORMAT, e.g.": "position",
		"of how many values? Give joints=joint_velocity:DIMS, or one of absolute_xyz,": "joints=joint_velocity",
		`"x" is no number of values`:                                                     "joints=joint_velocity:x",
		"its parts have more values than the policy's actions: 2":                        "position=delta_xyz",
		"its parts have 1 values, the policy's actions 2 (grip is in none)":              "gripper=continuous_01",
		"gripper is there twice":                                                         "gripper=continuous_01,gripper=continuous_01",
		"state=eef_pos3_axisangle3_gripper2 has 8 values, and the policy's observation.": "state=eef_pos3_axisangle3_gripper2",
	} {
		if _, err := New(&arm{}, Options{Protocol: "vla-eval", Spec: text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := New(&twin{}, Options{Protocol: "vla-eval", Spec: "state=raw"}); err != nil {
		t.Error(err)
	}
	joints := (&arm{}).Card()
	joints.Observation[2].Name = "observation.joints"
	for list, want := range map[string]string{"": "the policy sees no state", "states=joints": "", "state=joints": ""} { // a client's name makes it the state
		n, err := namesFor(joints, strings.Fields(list))
		if err != nil {
			t.Fatal(err)
		}
		_, seen, err := specsOf("state=joint_positions", n)
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) || want == "" && (err != nil || seen["state"].(dimSpec).Format != "joint_positions") {
			t.Errorf("%q: %v %v", list, seen, err)
		}
	}
}

// TestNames guards what clients' names are taken for.
func TestNames(t *testing.T) {
	card := (&arm{}).Card()
	n, err := namesFor(card, []string{"image=wrist", "joints=observation.state"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"image": "observation.images.wrist", "observation/image": "observation.images.wrist", "a.joints": "observation.state",
		"myimage": "myimage", "observation.images.wrist": "observation.images.wrist"} {
		if got := n.called(name); got != want {
			t.Errorf("%s is called %s, want %s", name, got, want)
		}
	}
	if n.known("depth") || !n.known("joints") || n.shown("observation.state") != "joints" || n.shown("observation.images.image") != "image" {
		t.Error("names")
	}
	for want, list := range map[string][]string{
		"--rename a: want FROM=TO": {"a"},
		"--rename a=front: front is no part of what the policy sees; want one of observation.images": {"a=front"},
		"--rename a=wrist: a is renamed already, to observation.images.image":                        {"a=image", "a=wrist"},
	} {
		if _, err := New(&arm{}, Options{Rename: list}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", list, err, want)
		}
	}
}

// FuzzVLAEval guards that no message brings a session down, that each gets what the
// protocol owes it, and that what was decoded shares no memory with its message.
func FuzzVLAEval(f *testing.F) {
	files, _ := filepath.Glob("testdata/vla-eval/*.msgpack")
	if len(files) < 10 {
		f.Fatal(files)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s, err := New(&arm{frames: 2}, Options{Protocol: "vla-eval", Ensemble: true, Execute: 2, Rename: []string{"agentview=image"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b) // the fuzzer's own does not change
		c, err := s.speaks.begin(s)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			h, err := c.hear(b)
			before := fmt.Sprint(h.ask)
			for i := range b {
				b[i] ^= 0xff
			}
			if after := fmt.Sprint(h.ask); after != before {
				t.Errorf("%s became %s", before, after)
			}
			for i := range b {
				b[i] ^= 0xff
			}
			switch {
			case err != nil:
				if kind, m, open := c.fail(err); kind != websocket.MessageBinary || !open || len(m) == 0 {
					t.Errorf("an error is told as %v %q", kind, m)
				}
			case h.ask != nil:
				if m, err := c.tell(told{chunk: make(trained.Chunk, 8)}); err != nil || !bytes.Contains(m, []byte("actions")) {
					t.Errorf("%q %v", m, err)
				}
			}
		}
	})
}
