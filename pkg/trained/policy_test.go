package trained

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// untrained is a checkpoint with its data, whose model has its first weights.
func untrained(t testing.TB, job string) *Checkpoint {
	t.Helper()
	j, err := train.Kinds().Parse("job.yaml", []byte(job), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &Checkpoint{Dir: "here", Step: 7, Job: j}
	t.Cleanup(c.Close)
	if c.Set, err = train.OpenDataContext(context.Background(), j, ".", nil, data.Watch{}); err != nil {
		t.Fatal(err)
	}
	c.Meta = c.Set.Meta()
	if c.Model, _, err = train.Build(j, c.Meta); err != nil {
		t.Fatal(err)
	}
	c.Model.Init(3)
	return c
}

const smallTable = `
name: small
model: {kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2, dropout: 0.1, action_dim: 7}
data: {kind: tabletop, episodes: 10}
train: {steps: 1}
`

// observed is what a robot would send where the data has a sample.
func observed(c *Checkpoint, s data.Sample) Observation {
	o := Observation{}
	for k, f := range c.Meta.Spec {
		v := s.Values[k]
		switch f.Name {
		case models.Images:
			o["images"] = Given{Bytes: v.RGB, Shape: []int{v.H, v.W, 3}}
		case models.Instruction:
			var words []string
			for _, id := range v.Ints {
				if id > 1 {
					words = append(words, c.Meta.Vocab[id])
				}
			}
			o["prompt"] = Given{Text: strings.Join(words, " ")}
		}
	}
	return o
}

// TestPolicyAnswersAsPredict guards that an observation is answered, to the last
// bit, with what the model makes of the sample it shows, in physical units: alone,
// and together with any number of others.
func TestPolicyAnswersAsPredict(t *testing.T) {
	t.Run("trained", func(t *testing.T) { answersAsPredict(t, smallTable) })
	t.Run("frozen words", func(t *testing.T) {
		p := answersAsPredict(t, strings.Replace(smallTable, "steps: 1", `steps: 1, freeze: ["language_encoder.*", "vision_encoder.*"]`, 1))
		if p.words.Found == 0 || p.words.Asked > 2*p.words.Found {
			t.Errorf("of instructions %d were kept of %d that were asked for", p.words.Found, p.words.Asked)
		}
	})
}

// answersAsPredict is the test of one job.
func answersAsPredict(t *testing.T, job string) *Policy {
	c := untrained(t, job)
	p, err := c.Policy(2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	var qs []*Question
	var want []Chunk
	src := c.Set.Train()
	for i := range 7 {
		s, err := src.Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		q, notes, err := p.Read(observed(c, s))
		if err != nil || len(notes) > 0 {
			t.Fatal(notes, err)
		}
		b, err := c.batchOf(s, c.Meta.Spec)
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Predict(rt, b)
		if err != nil {
			t.Fatal(err)
		}
		chunk := slices.Clone(out[0].Data.([]float32))
		c.Meta.Actions.Denormalize(chunk, chunk)
		qs, want = append(qs, q), append(want, chunk)
	}
	for n := 1; n <= len(qs); n++ {
		for from := 0; from+n <= len(qs); from += n {
			got, err := p.Answer(qs[from : from+n])
			if err != nil || len(got) != n {
				t.Fatal(len(got), err)
			}
			for i, chunk := range got {
				if !slices.EqualFunc(chunk, want[from+i], func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
					t.Errorf("question %d of %d together: %v, alone %v", i, n, chunk, want[from+i])
				}
			}
		}
	}
	if slices.Equal(want[0], want[1]) {
		t.Error("two samples are answered alike: the test sees no difference")
	}
	if _, err := p.Answer(nil); err == nil {
		t.Error("nothing is answered")
	}
	return p
}

// TestFlowPolicyRepeats guards that a policy whose answers are made of noise answers
// equal observations with equal bits: again, and at any place among others.
func TestFlowPolicyRepeats(t *testing.T) {
	c := untrained(t, strings.NewReplacer("dropout: 0.1", "dropout: 0.1, fusion: cross").Replace(smallTable)+"loss: flow\n")
	p, err := c.Policy(1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var qs []*Question
	for _, i := range []int{0, 5, 0, 9, 0} {
		s, err := c.Set.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		q, _, err := p.Read(observed(c, s))
		if err != nil {
			t.Fatal(err)
		}
		qs = append(qs, q)
	}
	together, err := p.Answer(qs)
	if err != nil {
		t.Fatal(err)
	}
	for i, q := range qs {
		alone, err := p.Answer([]*Question{q})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(alone[0], together[i]) {
			t.Errorf("question %d: %v alone, %v among %d", i, alone[0], together[i], len(qs))
		}
	}
	if !slices.Equal(together[0], together[2]) || !slices.Equal(together[0], together[4]) || slices.Equal(together[0], together[1]) {
		t.Errorf("%v", together)
	}
}

// TestPolicyLeavesEarly guards that a policy with exits answers each question with the
// output at which its depth has enough, in physical units, alone and among others.
func TestPolicyLeavesEarly(t *testing.T) {
	c := untrained(t, strings.Replace(smallTable, "n_layers: 2", "n_layers: 6, exits: [1, 2]", 1))
	p, err := c.Policy(1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var qs []*Question
	for i := range 3 {
		s, err := c.Set.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		q, _, err := p.Read(observed(c, s))
		if err != nil {
			t.Fatal(err)
		}
		qs = append(qs, q)
	}
	answers := func(d eval.Depth) []Chunk {
		t.Helper()
		if err := p.SetDepth(d); err != nil {
			t.Fatal(err)
		}
		all, err := p.Answer(qs)
		if err != nil {
			t.Fatal(err)
		}
		for i, q := range qs {
			if one, err := p.Answer([]*Question{q}); err != nil || !slices.Equal(one[0], all[i]) {
				t.Errorf("depth %+v, question %d: %v alone, %v among others (%v)", d, i, one, all[i], err)
			}
		}
		return all
	}
	whole, deep, shallow, hurried := answers(eval.Depth{}), answers(eval.Depth{Threshold: 1e-12}), answers(eval.Depth{Threshold: 1e9}), answers(eval.Depth{Budget: 1})
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	s, err := eval.NewStager(rt, c.Model, c.Meta.Spec)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, q := range qs {
		var stages []Chunk
		if err := s.Run(q.batch, eval.Depth{}, func(_ int, out []float32, _ float64, _ time.Duration) {
			x := slices.Clone(out)
			c.Meta.Actions.Denormalize(x, x)
			stages = append(stages, x)
		}); err != nil || len(stages) != 3 {
			t.Fatal(len(stages), err)
		}
		if !slices.Equal(whole[i], stages[2]) || !slices.Equal(deep[i], stages[2]) {
			t.Errorf("question %d: %v and %v, want %v", i, whole[i], deep[i], stages[2])
		}
		if !slices.Equal(shallow[i], stages[1]) || !slices.Equal(hurried[i], stages[0]) { // the first exit has nothing to compare with
			t.Errorf("question %d: %v and %v, want %v and %v", i, shallow[i], hurried[i], stages[1], stages[0])
		}
		if slices.Equal(stages[0], stages[1]) || slices.Equal(stages[1], stages[2]) {
			t.Error("the exits say the same: the test sees no difference")
		}
	}
	for want, d := range map[string]eval.Depth{"want numbers above 0": {Threshold: math.NaN()}, "--exit-budget -1ns": {Budget: -1}} {
		if err := p.SetDepth(d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	plain, err := untrained(t, smallTable).Policy(1)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := plain.SetDepth(eval.Depth{Budget: 1}); err == nil || !strings.Contains(err.Error(), "the model has no exits: train one with model.exits") {
		t.Error(err)
	}
}

// TestTimes guards that a feature of several times may be given as one value for each,
// picture files too.
func TestTimes(t *testing.T) {
	r := robotReader(t)
	state := func(x ...float64) Given { return Given{Floats: x, Shape: []int{2}} }
	file := Given{File: []byte("a PNG")}
	frame := film(1, 2, 2)
	frame.Shape = frame.Shape[1:]
	good := func() Observation {
		return Observation{"corner": {Times: []Given{file, frame}}, "wrist": {Times: []Given{frame, file}}, "state": {Times: []Given{state(1, 2), state(3, 2.5)}}, "task": {Text: "open the door"}}
	}
	s, _, err := r.read(good())
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Values[0].Encoded) != "a PNG" || s.Values[2].RGB == nil || s.Values[1].RGB == nil || string(s.Values[3].Encoded) != "a PNG" || fmt.Sprint(s.Values[4].Floats, s.Values[5].Floats) != "[1 2 3 2.5] [1 1]" {
		t.Errorf("%+v", s.Values[:6])
	}
	for want, g := range map[string]Given{
		"observation.state: is given at 3 times; the policy sees 2":       {Times: []Given{state(1, 2), state(1, 2), state(1, 2)}},
		"observation.state: is given at times within times":               {Times: []Given{{Times: []Given{state(1, 2)}}}},
		"observation.state: has the shape [1 2]; want [2]":                {Times: []Given{state(1, 2), {Floats: []float64{1, 2}, Shape: []int{1, 2}}}},
		"observation.state has 1 frames, others have 2":                   {Times: []Given{state(1, 2)}},
		"observation.state: is a text; want observation.state (2 numbers": {Times: []Given{{Text: "x"}, state(1, 2)}},
	} {
		o := good()
		o["state"] = g
		if _, _, err := r.read(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	o := good()
	o["corner"] = Given{Times: []Given{frame, state(1, 2)}}
	if _, _, err := r.read(o); err == nil || !strings.Contains(err.Error(), "observation.images.corner: has the shape [2]; want [height, width, 3]") {
		t.Error(err)
	}
}

// TestCardRefuses guards that a model that names tokens is no policy.
func TestCardRefuses(t *testing.T) {
	c := untrained(t, "name: words\nmodel: {kind: encoder, d_model: 16, n_heads: 2, n_layers: 1, max_len: 8}\ndata: {kind: copy, seq_len: 4, episodes: 10}\ntrain: {steps: 1}\n")
	if _, err := c.Policy(1); err == nil || !strings.Contains(err.Error(), "a model of kind encoder answers with tokens; a policy answers with actions") {
		t.Error(err)
	}
}

// robotMeta is of two cameras and a state, of two times.
func robotMeta() data.Meta {
	view := func(camera, past int, name string) models.Feature {
		return models.Feature{Name: models.View(camera, past), Type: models.Image, Shape: []int{3, 2, 2}, Role: models.Input, Source: name}
	}
	const corner, wrist = "observation.images.corner", "observation.images.wrist"
	state := models.Feature{Name: models.State, Type: models.Float, Shape: []int{2, 2}, Role: models.Input, Normalise: true, Source: "observation.state"}
	task := models.Known(models.Instruction, 4)
	task.Source = "task"
	actions := models.Feature{Name: models.Actions, Type: models.Float, Shape: []int{3, 2}, Role: models.Target, Normalise: true, Source: "action"}
	stats := func(mode string, names ...string) *data.Stats {
		s := &data.Stats{Mode: mode, Names: names, Units: []string{"m", ""}}
		for range names {
			s.Mean, s.Std, s.Min, s.Max = append(s.Mean, 0), append(s.Std, 1), append(s.Min, -1), append(s.Max, 3)
			s.Q01, s.Q99 = append(s.Q01, -1), append(s.Q99, 3)
		}
		return s
	}
	return data.Meta{Kind: "lerobot", Rate: 10, VocabSize: 5, Vocab: []string{"<pad>", "<unk>", "door", "open", "the"},
		Spec: models.Spec{view(0, 1, corner), view(1, 1, wrist), view(0, 0, corner), view(1, 0, wrist), state,
			{Name: models.Past, Type: models.Float, Shape: []int{2}, Role: models.Input}, task, actions},
		Actions: stats(data.MinMax, "dx", "dy"), Stats: map[string]*data.Stats{models.State: stats(data.MeanStd, "x", "grip")},
		ImageMean: [3]float32{.5, .5, .5}, ImageStd: [3]float32{.5, .5, .5}}
}

func robotReader(t *testing.T) *reader {
	t.Helper()
	card := Card{Job: "robot", Step: 5, Chunk: 1}
	card.describe(robotMeta())
	r, err := newReader(card, robotMeta())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// film is n pictures of h×w, of which every byte says which it is.
func film(n, h, w int) Given {
	g := Given{Shape: []int{n, h, w, 3}}
	for i := range n * h * w * 3 {
		g.Bytes = append(g.Bytes, byte(i))
	}
	return g
}

// TestCard guards what a client is told.
func TestCard(t *testing.T) {
	card := robotReader(t).card
	want := "robot, step 5: observation.images.corner (a picture, of 2 times), observation.images.wrist (a picture, of 2 times), " +
		"observation.state (2 numbers: x m, grip, of 2 times), task (an instruction, given as prompt) -> 3 × dx m, dy, 10 a second"
	if got := card.String(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if card.Chunk != 3 || card.Actions.Normalisation != data.MinMax || !slices.Equal(card.Observation[3].Vocabulary, []string{"door", "open", "the"}) ||
		card.Observation[2].Dimensions[0] != (Dimension{"x", "m", -1, 3}) || !slices.Equal(card.Observation[0].Shape, []int{2, 2, 3}) {
		t.Errorf("%+v", card)
	}
}

// TestObservation guards which sample an observation becomes: its times in their
// order, those before an episode's beginning as the first and marked so, under any
// of their names.
func TestObservation(t *testing.T) {
	r := robotReader(t)
	for _, o := range []Observation{
		{"observation.images.corner": film(2, 3, 4), "observation.images.wrist": film(2, 2, 2), "observation.state": {Floats: []float64{1, 2, 3, 2.5}, Shape: []int{2, 2}}, "task": {Text: "Open the door"}},
		{"observation/images/corner": film(2, 3, 4), "wrist": film(2, 2, 2), "robot/observation/state": {Bytes: []byte{1, 2, 3, 3}, Shape: []int{2, 2}}, "prompt": {Text: "open the door!"}},
	} {
		s, notes, err := r.read(o)
		if err != nil || len(notes) > 0 {
			t.Fatal(notes, err)
		}
		first, now := s.Values[0], s.Values[2]
		if first.H != 3 || first.W != 4 || first.RGB[0] != 0 || now.RGB[0] != 36 || s.Values[3].RGB[11] != 23 {
			t.Errorf("pictures: %v, %v", first.Image, now.Image)
		}
		if got := s.Values[4].Floats; got[0] != 1 || got[2] != 3 {
			t.Errorf("state %v", got)
		}
		if got := fmt.Sprint(s.Values[5].Floats, s.Values[6].Ints, s.Values[7].Floats); got != "[1 1] [3 4 2 0] [0 0 0 0 0 0]" {
			t.Error(got)
		}
	}
	s, notes, err := r.read(Observation{"corner": film(1, 2, 2), "wrist": film(1, 2, 2), "state": {Floats: []float64{1, 2}, Shape: []int{1, 2}}, "task": {Text: "open a door"}})
	if err != nil || fmt.Sprint(notes) != "[task: training had no a]" {
		t.Error(notes, err)
	}
	if fmt.Sprint(s.Values[4].Floats, s.Values[5].Floats) != "[1 2 1 2] [0 1]" || &s.Values[0].RGB[0] != &s.Values[2].RGB[0] {
		t.Error("an episode's first frame is not before itself")
	}
}

// TestPixels guards that a picture is the same pixels in each form.
func TestPixels(t *testing.T) {
	x := CardFeature{Name: "a", Kind: Picture, Shape: []int{8, 8, 3}, Frames: 1}
	rgb := film(1, 2, 4)
	rgb.Shape = rgb.Shape[1:]
	planes := Given{Shape: []int{3, 2, 4}, Bytes: make([]byte, 24)}
	for i := range 8 {
		for c := range 3 {
			planes.Bytes[8*c+i] = rgb.Bytes[3*i+c]
		}
	}
	shares := Given{Shape: planes.Shape}
	for _, b := range planes.Bytes {
		shares.Floats = append(shares.Floats, float64(float32(b)/255))
	}
	for name, g := range map[string]Given{"bytes": rgb, "planes": planes, "shares": shares} {
		if v, err := g.pixels(x); err != nil || v.H != 2 || v.W != 4 || !slices.Equal(v.RGB, rgb.Bytes) {
			t.Errorf("%s: %+v %v", name, v, err)
		}
	}
	grey := Given{Shape: []int{2, 2, 1}, Bytes: []byte{1, 2, 3, 4}}
	if v, err := grey.pixels(x); err != nil || fmt.Sprint(v.RGB) != "[1 1 1 2 2 2 3 3 3 4 4 4]" {
		t.Errorf("%+v %v", v, err)
	}
}

// TestMisfits guards that every difference between an observation and the card is
// named, in one error.
func TestMisfits(t *testing.T) {
	r := robotReader(t)
	good := func() Observation {
		return Observation{"corner": film(2, 2, 2), "wrist": film(2, 2, 2), "state": {Floats: []float64{1, 2, 1, 2}, Shape: []int{2, 2}}, "task": {Text: "open the door"}}
	}
	numbers := func(shape []int, x ...float64) Given { return Given{Floats: x, Shape: shape} }
	for want, change := range map[string]func(o Observation){
		"observation.state (2 numbers: x m, grip, of 2 times) is missing": func(o Observation) { delete(o, "state") },
		"front is not looked at; leave it out, or give it the name of what it is (the policy sees observation.images.corner, observation.images.wrist, observation.state, task); " +
			"observation.images.corner (a picture, of 2 times) is missing": func(o Observation) { o["front"] = o["corner"]; delete(o, "corner") },
		"corner and images/corner are both observation.images.corner":   func(o Observation) { o["images/corner"] = o["corner"] },
		"observation.state: has the shape [3]; want [2]":                func(o Observation) { o["state"] = numbers([]int{2, 3}, 0, 0, 0, 0, 0, 0) },
		"observation.state: has the shape [2]; the policy sees 2 times": func(o Observation) { o["state"] = numbers([]int{2}, 0, 0) },
		"observation.state: x is 60, training had -1 to 3 m":            func(o Observation) { o["state"] = numbers([]int{2, 2}, 0, 0, 60, 0) },
		"observation.state: grip is NaN":                                func(o Observation) { o["state"] = numbers([]int{2, 2}, 0, math.NaN(), 0, 0) },
		"observation.state: is a text; want":                            func(o Observation) { o["state"] = Given{Text: "1"} },
		"observation.state: is a byte string; want an array":            func(o Observation) { o["state"] = Given{File: []byte("1")} },
		"observation.state has 1 frames, others have 2":                 func(o Observation) { o["state"] = numbers([]int{1, 2}, 0, 0) },
		"observation.images.wrist: has the shape [2 2 4]; want":         func(o Observation) { o["wrist"] = Given{Bytes: make([]byte, 32), Shape: []int{2, 2, 2, 4}} },
		"observation.images.wrist: has the shape [3 2 2 3]; the policy": func(o Observation) { o["wrist"] = film(3, 2, 2) },
		"observation.images.wrist: has 0×2 pixels":                      func(o Observation) { o["wrist"] = Given{Bytes: []byte{}, Shape: []int{2, 2, 0, 3}} },
		"observation.images.wrist: has the value 255; a picture of floats goes from 0 to 1": func(o Observation) {
			g := Given{Shape: []int{2, 1, 1, 3}, Floats: []float64{0, 0, 255, 0, 0, 0}}
			o["wrist"] = g
		},
		"observation.images.wrist: is one picture file; the policy sees 2 times": func(o Observation) { o["wrist"] = Given{File: []byte("x")} },
		`task: "close" has no word that training had; it had door, open, the`:    func(o Observation) { o["task"] = Given{Text: "close"} },
		`task: "open the door the door" has 5 words; the model was trained on`:   func(o Observation) { o["task"] = Given{Text: "open the door the door"} },
		"task: is no text": func(o Observation) { o["task"] = numbers([]int{1}, 1) },
	} {
		o := good()
		change(o)
		if _, _, err := r.read(o); err == nil || !strings.Contains(err.Error(), "the observation does not fit the policy: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	if _, _, err := r.read(good()); err != nil {
		t.Error(err)
	}
	r.card.Observation[1].Name = "wrist.corner"
	if _, _, err := r.read(good()); err == nil || !strings.Contains(err.Error(), "corner can be observation.images.corner or wrist.corner: give the whole name") {
		t.Error(err)
	}
}
