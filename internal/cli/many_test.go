package cli

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// manyFirstCommit is how long 64 workers may take from the command to their first
// commit: it was 1.8 s on two cores that 28 other processes wanted as well.
const manyFirstCommit = 10 * time.Second

// 64 worker processes on one machine train a tiny model, 8 of them are killed at
// once, others take their places: the weights are those of one worker, whether
// gradients go through shared memory or over NATS.
func TestSixtyFourWorkers(t *testing.T) {
	const job = "testdata/many.yaml"
	want := trainDone(t, job, "--workers", "1", "--set", "cluster.workers=1", "--set", "train.steps=20", "--run-dir", filepath.Join(t.TempDir(), "one"))
	for _, road := range []string{"auto", "nats"} {
		t.Run(road, func(t *testing.T) {
			began := time.Now()
			p := start(t, nil, bin.coordinator, "train", job, "--json", "--workers", "64", "--threads", "1", "--run-dir", filepath.Join(t.TempDir(), "run"), "--set", "train.steps=20", "--set", "cluster.road="+road)
			pids := map[string]int{}
			for len(pids) < 64 {
				e := p.event("joined")
				pids[e["worker"].(string)] = int(e["pid"].(float64))
			}
			first := p.event("step")
			took := time.Since(began)
			t.Logf("first commit after %v", took.Round(10*time.Millisecond))
			if n := int(first["world"].(float64)); n != 64 || took > manyFirstCommit {
				t.Errorf("the first step was committed by %d workers after %v", n, took)
			}
			// At once: the steps of a tiny model are quick, and reports of the next ones come some at a time.
			for _, id := range []string{"w0", "w7", "w8", "w9", "w20", "w33", "w62", "w63"} { // the ends, neighbours, and some between
				if err := syscall.Kill(pids[id], syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			killed, broken := time.Now(), false
			for e := p.event("step"); ; e = p.event("step") {
				if !broken && e["generation"].(float64) > first["generation"].(float64) {
					broken = true
					t.Logf("step %v, by %v workers, was committed %v after 8 were killed", e["step"], e["world"], time.Since(killed).Round(10*time.Millisecond))
				}
				if e["step"].(float64) == 20 {
					break
				}
			}
			if !broken {
				t.Error("8 workers were killed, and the generation went on")
			}
			if got := p.event("end")["model_sha256"]; got != want {
				t.Errorf("weights %v, with one worker %v", got, want)
			}
			if code, _ := p.wait(); code != 0 {
				t.Errorf("exit code %d\n%s", code, p.errText())
			}
		})
	}
}
