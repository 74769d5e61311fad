package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
)

// run is a whole job in one process: the real coordinator, workers and rings.
type run struct {
	t     *testing.T
	job   *job.Job
	meta  []byte
	bus   *cluster.MemBus
	net   *allreduce.MemNetwork
	blobs *bulk.Memory
	wg    sync.WaitGroup

	mu     sync.Mutex
	losses []float64
	worlds []int
	saved  map[uint64]string // hash of each checkpoint's files
}

func (r *run) worker(ctx context.Context, id string) {
	net := r.net.Join(id)
	w := New(Config{Job: r.job.Name, ID: id, Host: "host", PID: 1, Version: "test", Threads: 1, CPU: "any", RescueDir: r.t.TempDir(),
		Bus: r.bus, Net: net, Blobs: r.blobs.Join(id), Log: zap.NewNop()})
	r.wg.Go(func() {
		defer net.Close()
		if end, err := w.Run(ctx, ctx); err != nil && !errors.Is(err, context.Canceled) || err == nil && end.Outcome != cluster.Done && end.Outcome != cluster.Released {
			r.t.Errorf("worker %s ended with %+v, %v", id, end, err)
		}
	})
}

// play runs a job on workers w0, w1, … ; at is called after each step.
func play(t *testing.T, workers int, at func(r *run, step uint64), set ...string) *run {
	t.Helper()
	j, err := train.Kinds().Parse("tiny.yaml", []byte(tinyJob), append([]string{"batch.global=8", "batch.micro=1", "train.steps=12", "checkpoint.every=5",
		fmt.Sprintf("cluster.workers=%d", workers)}, set...))
	if err != nil {
		t.Fatal(err)
	}
	d, err := train.OpenData(j, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := json.Marshal(d.Meta())
	d.Close()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, job: j, meta: meta, bus: cluster.NewMemBus(), net: allreduce.NewMemNetwork(allreduce.Faults{}), blobs: bulk.NewMemory(), saved: map[uint64]string{}}
	mine := r.blobs.Join(cluster.CoordinatorName)
	coord := cluster.NewCoordinator(r.bus, j.Name, "host", 1, cluster.Hooks{
		Welcome: func(*cluster.Join) *cluster.Welcome { return &cluster.Welcome{Job: string(j.YAML()), Data: meta} },
		StepDone: func(reports []*cluster.Report) {
			m := reports[0] // any one has the loss of the step
			r.mu.Lock()
			if m.Step != uint64(len(r.losses)+1) {
				t.Errorf("step %d was told after step %d", m.Step, len(r.losses))
			}
			r.losses, r.worlds = append(r.losses, m.Loss), append(r.worlds, m.World)
			r.mu.Unlock()
			if at != nil {
				at(r, m.Step)
			}
		},
		Members: func(cluster.Phase, []cluster.Member) {},
		Save: func(ctx context.Context, step uint64, parts []*cluster.Offer) error {
			h := sha256.New()
			for _, name := range []string{train.ModelFile, train.OptimizerFile} {
				for _, o := range parts {
					i := slices.IndexFunc(o.Files, func(p cluster.Piece) bool { return p.File == name })
					buf := make(bulk.Buffer, o.Files[i].Size)
					if err := mine.Fetch(ctx, o.Worker, o.Files[i].Name, o.Files[i].Size, o.Files[i].SHA256, buf); err != nil {
						return err
					}
					h.Write(buf)
				}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.saved[step] = hex.EncodeToString(h.Sum(nil))
			return nil
		},
		Rewind: func(context.Context) (uint64, []cluster.Blob, error) {
			return 0, nil, errors.New("nothing is on the disk")
		},
		Note:   func(text string) { t.Log(text) },
		Scaled: func(int) {},
		Status: func(cluster.Phase, []cluster.Member) any { return nil },
	})
	for i := range workers {
		r.worker(t.Context(), fmt.Sprintf("w%d", i))
	}
	k := j.Cluster
	fin, err := coord.Run(t.Context(), cluster.Config{Coordinator: "lead", Job: train.JobHash(j, d.Meta()), Workers: workers, MinWorkers: k.MinWorkers, MaxWorkers: k.MaxWorkers,
		Micro: 8, Steps: uint64(j.Train.Steps), Deadline: time.Minute, JoinTimeout: time.Minute, Straggler: cluster.KeepStraggler})
	if err != nil || fin.Outcome != cluster.Done || fin.Step != 12 || !fin.Stored {
		t.Errorf("the job ended as %+v, %v", fin, err)
	}
	r.wg.Wait()
	return r
}

// Workers leave in the middle of steps and others join: losses and checkpoints
// are those of one worker, to the last bit.
func TestElasticRun(t *testing.T) {
	want := play(t, 1, nil)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	got := play(t, 2, func(r *run, step uint64) {
		switch step {
		case 1:
			r.worker(ctx, "x")
			r.worker(t.Context(), "y")
		case 6:
			leave()
		}
	}, "cluster.max_workers=8")
	if !slices.Equal(got.losses, want.losses) {
		t.Errorf("losses %v\nof one worker %v", got.losses, want.losses)
	}
	for step, hash := range got.saved {
		if want.saved[step] != "" && hash != want.saved[step] {
			t.Errorf("the checkpoint of step %d is %.12s, of one worker %.12s", step, hash, want.saved[step])
		}
	}
	if got.saved[12] == "" || want.saved[12] == "" {
		t.Error("the last step was not stored")
	}
	t.Logf("workers at each step: %v", got.worlds)
}
