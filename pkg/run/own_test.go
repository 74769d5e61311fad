package run

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/transport"
)

// momentum is an optimizer of a test's own, with one slot.
type momentum struct {
	Keep float32 `yaml:"keep"`
}

func (m momentum) Resolve(*job.Job, func(string) bool) job.Options { return m }
func (m momentum) Check(*job.Checker)                              {}
func (m momentum) Slots() []train.Slot                             { return []train.Slot{{Name: "momentum"}} }
func (m momentum) Step(_ *tensor.Runtime, u train.Update) {
	for i := range u.Weights {
		u.Slots[0][i] = float32(u.Slots[0][i]*m.Keep) + float32(u.Grad[i]*u.Scale)
		u.Weights[i] -= float32(float32(u.LR) * u.Slots[0][i])
	}
}

// hits is a head of a test's own: the squared error, and the share of values that
// come near.
type hits struct{}

func (h hits) Resolve(*job.Job, func(string) bool) job.Options { return h }
func (hits) Check(*job.Checker)                                {}
func (hits) Name() string                                      { return "hits" }
func (hits) Judges() string                                    { return models.Actions }
func (hits) Metrics() []job.Metric {
	return []job.Metric{{Name: "near", HigherIsBetter: true}}
}
func (hits) Loss(t *tensor.Tape, answer *tensor.Var, of models.Expected) *tensor.Loss {
	return t.MSE(answer, of.Actions)
}
func (hits) Soft(t *tensor.Tape, answer, teacher *tensor.Var, _ models.Expected, _ float64) *tensor.Loss {
	return t.MSE(answer, teacher)
}
func (hits) Score(answer []float32, of models.Truth, add func(int, float64, int)) {
	add(0, of.Loss, of.Count)
	for i, x := range answer {
		hit := 0.0
		if math.Abs(float64(x-of.Actions[i])) < 1 {
			hit = 1
		}
		add(1, hit, 1)
	}
}

// TestWholeRunOfOwnKinds: coordinator, workers, checkpoints, held-out measures and
// their file know of an optimizer and a head what the job's kinds say of them.
func TestWholeRunOfOwnKinds(t *testing.T) {
	kinds := train.Kinds()
	kinds.Optimizers = append(kinds.Optimizers, job.Kind{Name: "momentum", Options: momentum{Keep: 0.5}})
	kinds.Losses = append(kinds.Losses, job.Kind{Name: "hits", Options: hits{}})
	set := []string{"optimizer.kind=momentum", "loss=hits", "checkpoint={every: 2, keep: 1, best: {metric: heldout_near}}", "train.eval_every=2"}
	one, _ := wholeRunOf(t, kinds, transport.NewMemory(), 1, set...)
	three, dir := wholeRunOf(t, kinds, transport.NewMemory(), 3, set...)
	if one != three {
		t.Errorf("three workers make the weights %x, one %x", three, one)
	}
	f, err := safetensors.Open(dir + "/checkpoints/step-00000004/" + train.OptimizerFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range f.Names() {
		if !strings.HasPrefix(name, "momentum.") {
			t.Errorf("the optimizer's file has %s", name)
		}
	}
	lines, _, err := ReadEval(dir, math.MaxUint64)
	if err != nil || len(lines) == 0 {
		t.Fatalf("%s has %d lines (%v)", EvalFile, len(lines), err)
	}
	for _, l := range lines {
		if v, ok := l.Metric("near"); !ok || v < 0 || v > 1 || len(l.Metrics) != 1 {
			t.Errorf("a line of %s: %+v", EvalFile, l)
		}
	}
}

// post is a road of a test's own: frames to other hosts go over a network in memory.
type post struct {
	office       *allreduce.MemNetwork
	sent, formed *atomic.Int64
}

func (p post) Resolve(*job.Job, func(string) bool) job.Options { return p }
func (post) Check(*job.Checker)                                {}
func (post) Way() cluster.Road                                 { return cluster.Road{Network: "postmen"} }
func (p post) Open(end allreduce.End) (allreduce.HostNetwork, error) {
	return postman{p.office.Join(end.Member), p, end}, nil
}

type postman struct {
	allreduce.Network
	post
	end allreduce.End
}

func (p postman) Form(_ context.Context, generation uint64, peers map[string]allreduce.Peer) map[string]error {
	secret := len(peers) > 0
	for _, x := range peers {
		secret = secret && len(x.Secret) > 0
	}
	if generation > 0 && secret {
		p.formed.Add(1)
	}
	return nil
}

func (p postman) Send(ctx context.Context, peer string, frame []byte) error {
	p.sent.Add(1)
	return p.Network.Send(ctx, peer, frame)
}

func (p postman) Close() error {
	return errors.Join(p.Network.Close(), p.end.Listener.Close(), p.end.Fallback.Close())
}

// TestWholeRunOverOwnRoad: job file, coordinator and workers take a road that they
// know by the job's kinds alone, and the weights are those of one worker.
func TestWholeRunOverOwnRoad(t *testing.T) {
	kinds := train.Kinds()
	p := post{allreduce.NewMemNetwork(allreduce.Faults{}), new(atomic.Int64), new(atomic.Int64)}
	kinds.Roads = append(kinds.Roads, job.Kind{Name: "post", Options: p})
	one, _ := wholeRunOf(t, kinds, transport.NewMemory(), 1)
	three, _ := wholeRunOf(t, kinds, transport.NewMemory(), 3, "cluster.road=post")
	if one != three {
		t.Errorf("three workers make the weights %x, one %x", three, one)
	}
	if p.sent.Load() == 0 || p.formed.Load() < 3 {
		t.Errorf("the road carried %d frames and was formed by %d workers", p.sent.Load(), p.formed.Load())
	}
}
