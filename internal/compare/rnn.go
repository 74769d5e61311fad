package compare

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// The two sides: the same width, and the same number of weights in their
// layers (a transformer's has 12·D², an LSTM's 8·D²).
const (
	rnnWidth          = 64
	transformerLayers = 2
	lstmLayers        = 3
	rnnVocab          = 32
)

// side is one of the two.
type side struct {
	name  string
	model string // of a job
}

func rnnSides(maxLen int) []side {
	return []side{
		{"transformer", fmt.Sprintf("{kind: encoder, vocab_size: %d, d_model: %d, n_heads: 4, n_layers: %d, max_len: %d, dropout: 0, pad_token: -1}", rnnVocab, rnnWidth, transformerLayers, maxLen)},
		{"lstm", fmt.Sprintf("{kind: lstm, vocab_size: %d, d_model: %d, n_layers: %d, max_len: %d, dropout: 0, pad_token: -1}", rnnVocab, rnnWidth, lstmLayers, maxLen)},
	}
}

// rnnPlan is the sizes of a comparison.
type rnnPlan struct {
	lengths   []int // T of the timings
	distances []int // of the recall task
	steps     int
	budget    time.Duration // a timing
}

func planRNN(quick bool) rnnPlan {
	if quick {
		return rnnPlan{[]int{8, 16}, []int{4}, 4, time.Millisecond}
	}
	return rnnPlan{[]int{16, 64, 256, 1024}, []int{8, 32, 128}, 1000, time.Second}
}

// RNN compares a transformer encoder with an LSTM: the text's four claims.
func RNN(ctx context.Context, o Options) (*Report, error) { return settled(measureRNN(ctx, o)) }

func measureRNN(ctx context.Context, o Options) (*Report, error) {
	start := time.Now()
	plan := planRNN(o.Quick)
	r := &Report{Title: "RNN/LSTM against Transformer", Quick: o.Quick}
	times, err := rnnTimes(ctx, o, plan)
	if err != nil {
		return nil, err
	}
	reach, err := gradientReach(ctx, plan)
	if err != nil {
		return nil, err
	}
	runs, err := recallRuns(ctx, o, plan)
	if err != nil {
		return nil, err
	}
	counts := ""
	for _, s := range rnnSides(plan.lengths[0]) {
		sub, err := open(copyJob(s.model, plan.lengths[0]))
		if err != nil {
			return nil, err
		}
		counts += fmt.Sprintf("%s of %d parameters, ", s.name, sub.parameters())
		sub.Close()
	}
	r.Setting = fmt.Sprintf("%sboth %d wide; %s", counts, rnnWidth, machine(o.Threads))
	r.Claims = []Claim{claimProcessing(times, o.Threads), claimDistance(runs, reach), claimSpeed(times, runs), claimMemory(times)}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

func copyJob(model string, length int) string {
	return fmt.Sprintf("name: compare\nseed: 1\nmodel: %s\ndata: {kind: copy, episodes: 64, seq_len: %d}\n", model, length)
}

// rnnTime is one side at one length.
type rnnTime struct {
	side   string
	length int
	one    timing // one sample, one thread
	all    timing // one sample, all threads
	batch  timing // a batch of timedBatch, all threads
}

const timedBatch = 8

func rnnTimes(ctx context.Context, o Options, plan rnnPlan) ([]rnnTime, error) {
	var out []rnnTime
	for _, t := range plan.lengths {
		for _, s := range rnnSides(t) {
			if err := ended(ctx); err != nil {
				return nil, err
			}
			o.log("timing the %s at T = %d", s.name, t)
			m := rnnTime{side: s.name, length: t}
			single, err := timed(copyJob(s.model, t), 1, []int{1, o.Threads}, plan.budget)
			if err == nil {
				var batch []timing
				if batch, err = timed(copyJob(s.model, t), timedBatch, []int{o.Threads}, plan.budget); err == nil {
					m.one, m.all, m.batch = single[0], single[1], batch[0]
				}
			}
			if err != nil {
				return nil, fmt.Errorf("%s at T = %d: %w", s.name, t, err)
			}
			out = append(out, m)
		}
	}
	return out, nil
}

// chain is how many steps of a side cannot begin before the one before is done.
func (m rnnTime) chain() int {
	if m.side == "lstm" {
		return lstmLayers + m.length - 1 // layer l's step t needs l's t-1 and l-1's t
	}
	return transformerLayers
}

func claimProcessing(times []rnnTime, threads int) Claim {
	c := Claim{Name: "processing", Text: "RNN/LSTM: sequential (t=1 → t=2 → t=3). Transformer: parallel (all t at once).",
		Table: Table{Columns: []string{"T", "model", "steps in a chain", "forward ms, 1 thread", fmt.Sprintf("%d threads", threads), "speed-up", "µs a token"}}}
	var up, perToken curves
	for _, m := range times {
		x := m.one.forward / m.all.forward
		us := 1e6 * m.all.forward / float64(m.length)
		c.Table.add(m.length, m.side, m.chain(), 1e3*m.one.forward, 1e3*m.all.forward, x, us)
		up.add(m.side, float64(m.length), x)
		perToken.add(m.side, float64(m.length), us)
	}
	c.Verdict, c.Why = judgeProcessing(times, threads)
	c.plots = [][]picture.Panel{{&picture.Lines{Title: fmt.Sprintf("speed-up of %d threads, one sequence", threads), X: "T", Y: "times", Lines: up.lines, LogX: true, Zero: true},
		&picture.Lines{Title: "forward, one sequence", X: "T", Y: "µs a token", Lines: perToken.lines, LogX: true, LogY: true}}}
	return c
}

// last returns the two sides at the greatest length.
func last(times []rnnTime) (transformer, lstm rnnTime) {
	for _, m := range times {
		if m.side == "lstm" {
			lstm = m
		} else {
			transformer = m
		}
	}
	return transformer, lstm
}

// clearly is by how much a ratio of timings must differ to count.
const clearly = 1.1

func judgeProcessing(times []rnnTime, threads int) (Verdict, string) {
	t, l := last(times)
	up := func(m rnnTime) float64 { return m.one.forward / m.all.forward }
	why := fmt.Sprintf("the LSTM has a chain of %d dependent steps at T = %d, the transformer one of %d layers; %d threads make one sequence %.2f times as fast in the transformer and %.2f in the LSTM",
		l.chain(), l.length, t.chain(), threads, up(t), up(l))
	switch {
	case threads == 1:
		return Confirmed, why + " (one thread: the chains alone tell)"
	case max(up(t), up(l)) > clearly*float64(threads):
		return Undecided, why + ": more than the threads can give, so other programs took part; run it on a quiet machine"
	case up(t) > clearly*up(l):
		return Confirmed, why
	}
	return Corrected, why + ": the order in time is there, but on these threads it costs nothing that shows"
}

// recallRun is one side trained on one distance.
type recallRun struct {
	side     string
	distance int
	accuracy float64 // of the recalled token, on sequences never seen
	solved   float64 // seconds until the loss stayed below solvedLoss; NaN: never
	seconds  float64
}

// solvedLoss counts as solved: a probability of a half on the answer.
const solvedLoss = math.Ln2

func recallRuns(ctx context.Context, o Options, plan rnnPlan) ([]recallRun, error) {
	var out []recallRun
	rt := tensor.NewRuntime(o.Threads)
	defer rt.Close()
	for _, d := range plan.distances {
		for _, s := range rnnSides(d + 1) {
			o.log("training the %s to recall over %d tokens, %d steps", s.name, d, plan.steps)
			sub, err := open(fmt.Sprintf(`name: compare
seed: 1
model: %s
data: {kind: recall, episodes: 20000, distance: %d, holdout: {fraction: 0.025}}
batch: {global: 32, micro: 32}
optimizer: {kind: adam, lr: 0.002, weight_decay: 0, clip_norm: 1}
schedule: {warmup_steps: %d}
train: {steps: %d}
`, s.model, d, plan.steps/20, plan.steps))
			if err != nil {
				return nil, err
			}
			f, err := sub.fit(ctx, rt)
			if err != nil {
				sub.Close()
				return nil, fmt.Errorf("%s, distance %d: %w", s.name, d, err)
			}
			rep, err := sub.evaluate(ctx, rt)
			sub.Close()
			if err != nil {
				return nil, err
			}
			run := recallRun{side: s.name, distance: d, accuracy: rep.Tokens.Accuracy, seconds: f.seconds, solved: math.NaN()}
			if n := solvedAt(f.losses, solvedLoss); n >= 0 {
				run.solved = f.seconds * float64(n+1) / float64(len(f.losses))
			}
			out = append(out, run)
		}
	}
	return out, nil
}

// solvedAt is the first step from which on the loss, averaged over the last
// ten steps, stays below limit; -1: there is none.
func solvedAt(losses []float64, limit float64) int {
	const over = 10
	at := -1
	for i := range losses {
		sum, n := 0.0, 0
		for j := max(0, i-over+1); j <= i; j++ {
			sum, n = sum+losses[j], n+1
		}
		switch {
		case sum/float64(n) >= limit:
			at = -1
		case at < 0:
			at = i
		}
	}
	return at
}

// reach is how much of a gradient arrives from some tokens away.
type reach struct {
	side     string
	distance int
	share    float64 // |∂ last result / ∂ input that far back|, over that of the distance 0
}

// gradientReach measures the untrained models: the result at the last token,
// weighted by random signs, against each input. With every token another word,
// the gradient of a word's embedding is that of its place.
func gradientReach(ctx context.Context, plan rnnPlan) ([]reach, error) {
	n := plan.distances[len(plan.distances)-1] + 1
	cfg := models.Config{VocabSize: n, DModel: rnnWidth, NHeads: 4, MaxLen: n, PadToken: -1}
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	var out []reach
	for _, name := range []string{"transformer", "lstm"} {
		if err := ended(ctx); err != nil {
			return nil, err
		}
		b := models.NewBuilder()
		var forward func(p *models.Pass, ids *tensor.Ints) *tensor.Var
		c := cfg
		if name == "lstm" {
			c.NLayers = lstmLayers
			e := models.NewLSTMEncoder(b, "", c)
			forward = e.Forward
		} else {
			c.NLayers = transformerLayers
			e, err := models.NewTransformerEncoder(b, "", c)
			if err != nil {
				return nil, err
			}
			forward = func(p *models.Pass, ids *tensor.Ints) *tensor.Var { return e.Forward(p, ids, tensor.Mask{}) }
		}
		ps := b.Params()
		ps.Seal()
		b.Init(1)
		ps.BindGrads(make([]float32, ps.Len()))
		tape := tensor.NewTape(rt, ps)
		ids := tape.Ints(1, n)
		for i := range ids.Data {
			ids.Data[i] = int32(i)
		}
		at := tape.SelectToken(forward(&models.Pass{Tape: tape}, ids), n-1)
		probe(tape, at, func() {})
		table := ps.ByName("embedding.weight")
		norm := func(i int) float64 {
			sum := 0.0
			for _, g := range table.Grad[i*c.DModel : (i+1)*c.DModel] {
				sum += float64(g) * float64(g)
			}
			return math.Sqrt(sum)
		}
		for d := 1; d < n; d *= 2 {
			out = append(out, reach{name, d, norm(n-1-d) / norm(n-1)})
		}
		tape.Close()
	}
	return out, nil
}

func claimDistance(runs []recallRun, reached []reach) Claim {
	c := Claim{Name: "long-range dependency", Text: "RNN/LSTM: information is gradually lost (vanishing gradient). Transformer: direct connection (attention reaches every position).",
		Table: Table{Columns: []string{"distance", "model", "recall accuracy %", "gradient that arrives"}}}
	var acc, grad curves
	for _, r := range reached {
		grad.add(r.side, float64(r.distance), r.share)
	}
	for _, r := range runs {
		c.Table.add(r.distance, r.side, 100*r.accuracy, shareAt(reached, r.side, r.distance))
		acc.add(r.side, float64(r.distance), 100*r.accuracy)
	}
	c.Verdict, c.Why = judgeDistance(runs, reached)
	c.plots = [][]picture.Panel{{&picture.Lines{Title: "recall of a token", X: "distance", Y: "accuracy %", Lines: acc.lines, LogX: true, Zero: true},
		&picture.Lines{Title: "gradient from that far back, untrained", X: "distance", Y: "of that at distance 0", Lines: grad.lines, LogX: true, LogY: true}}}
	return c
}

// shareAt is the measurement of reach at a distance, or the last below it.
func shareAt(reached []reach, side string, distance int) float64 {
	share := math.NaN()
	for _, r := range reached {
		if r.side == side && r.distance <= distance {
			share = r.share
		}
	}
	return share
}

func judgeDistance(runs []recallRun, reached []reach) (Verdict, string) {
	var t, l recallRun // at the greatest distance
	for _, r := range runs {
		if r.side == "lstm" {
			l = r
		} else {
			t = r
		}
	}
	gt, gl := shareAt(reached, t.side, t.distance), shareAt(reached, l.side, l.distance)
	why := fmt.Sprintf("over %d tokens the transformer recalls %.0f %% and the LSTM %.0f %% after the same steps; before training, %.2g of the gradient arrives from there in the transformer and %.2g in the LSTM",
		t.distance, 100*t.accuracy, 100*l.accuracy, gt, gl)
	if t.accuracy > l.accuracy+0.1 && gt > 10*gl {
		return Confirmed, why
	}
	if gt > 10*gl {
		return Corrected, why + ": the gradient does vanish, but the task is learned alike"
	}
	return Corrected, why
}

func claimSpeed(times []rnnTime, runs []recallRun) Claim {
	c := Claim{Name: "training speed", Text: "RNN/LSTM: slow (sequential). Transformer: fast (can be parallel).",
		Table: Table{Columns: []string{"T", "model", fmt.Sprintf("step ms, batch of %d", timedBatch), "tokens/s", "recall: s to solve", "s in all"}}}
	var speed curves
	for _, m := range times {
		tokens := float64(timedBatch*m.length) / m.batch.step
		c.Table.add(m.length, m.side, 1e3*m.batch.step, tokens, "", "")
		speed.add(m.side, float64(m.length), tokens)
	}
	for _, r := range runs {
		solved := any("never")
		if !math.IsNaN(r.solved) {
			solved = r.solved
		}
		c.Table.add(r.distance+1, r.side, "", "", solved, r.seconds)
	}
	c.Verdict, c.Why = judgeSpeed(times)
	c.plots = [][]picture.Panel{{&picture.Lines{Title: fmt.Sprintf("training, batch of %d", timedBatch), X: "T", Y: "tokens/s", Lines: speed.lines, LogX: true, LogY: true}}}
	return c
}

func judgeSpeed(times []rnnTime) (Verdict, string) {
	var faster, slower []int
	why := ""
	for i := 0; i+1 < len(times); i += 2 { // transformer, lstm
		t, l := times[i], times[i+1]
		x := l.batch.step / t.batch.step
		if why != "" {
			why += ", "
		}
		why += fmt.Sprintf("%.2f at T = %d", x, t.length)
		switch {
		case x > clearly:
			faster = append(faster, t.length)
		case x < 1/clearly:
			slower = append(slower, t.length)
		}
	}
	why = "tokens a second of the transformer over those of the LSTM: " + why
	if len(slower) == 0 && len(faster) > 0 {
		return Confirmed, why
	}
	return Corrected, why + ": a batch of sequences keeps the cores busy in both, and from some T on the T² of full attention costs more than the order in time"
}

func claimMemory(times []rnnTime) Claim {
	c := Claim{Name: "memory", Text: "RNN/LSTM: little. Transformer: much (attention between all positions).",
		Table: Table{Columns: []string{"T", "model", "training KiB a sequence", "KiB a token", "T×T maps would add KiB", "state to go on from, KiB"}}}
	var mem, state curves
	for _, m := range times {
		kib := float64(m.one.memory) / 1024
		c.Table.add(m.length, m.side, kib, kib/float64(m.length), m.maps()/1024, m.state()/1024)
		mem.add(m.side, float64(m.length), kib)
		if m.side != "lstm" {
			mem.add("transformer, were its maps kept", float64(m.length), kib+m.maps()/1024)
		}
		state.add(m.side, float64(m.length), m.state()/1024)
	}
	c.Verdict, c.Why = judgeMemory(times)
	c.plots = [][]picture.Panel{{&picture.Lines{Title: "training memory of one sequence", X: "T", Y: "KiB", Lines: mem.lines, LogX: true, LogY: true},
		&picture.Lines{Title: "state to go on from", X: "T", Y: "KiB", Lines: state.lines, LogX: true, LogY: true}}}
	return c
}

// maps is the bytes of a transformer's T×T weights, which it does not keep.
func (m rnnTime) maps() float64 {
	if m.side == "lstm" {
		return 0
	}
	return 4 * transformerLayers * 4 * float64(m.length) * float64(m.length)
}

// state is the bytes that the next token needs of all before it: h and c of
// each LSTM layer; keys and values of each token and transformer layer.
func (m rnnTime) state() float64 {
	if m.side == "lstm" {
		return 4 * 2 * lstmLayers * rnnWidth
	}
	return 4 * 2 * transformerLayers * rnnWidth * float64(m.length)
}

func judgeMemory(times []rnnTime) (Verdict, string) {
	t, l := last(times)
	first, _ := times[0], times[1]
	growth := float64(t.one.memory) / float64(first.one.memory) / (float64(t.length) / float64(first.length))
	why := fmt.Sprintf("training memory of one sequence at T = %d: %.0f KiB in the transformer, %.0f in the LSTM; from T = %d to %d the transformer's grew %.2f times as much as T",
		t.length, float64(t.one.memory)/1024, float64(l.one.memory)/1024, first.length, t.length, growth)
	if float64(t.one.memory) > clearly*float64(l.one.memory) && growth > 1.5 {
		return Confirmed, why
	}
	return Corrected, why + fmt.Sprintf(": attention goes block by block and keeps no T×T map (%.0f KiB more), so memory is linear in T on both sides; the state to go on from is where the LSTM has little (%.1f KiB against %.0f)",
		t.maps()/1024, l.state()/1024, t.state()/1024)
}
