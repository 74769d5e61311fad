package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// 64 worker processes on one machine train a tiny model, 8 of them are killed at
// once, others take their places: the weights are those of one worker, whether
// gradients go through shared memory or over NATS. Without VLARING_LONG=1 they are 16.
func TestSixtyFourWorkers(t *testing.T) {
	const job = "testdata/many.yaml"
	n, victims := 16, []string{"w0", "w7", "w8", "w15"} // the ends, neighbours, and with more some between
	if os.Getenv("VLARING_LONG") != "" {
		n, victims = 64, []string{"w0", "w7", "w8", "w9", "w20", "w33", "w62", "w63"}
	}
	want := trainDone(t, job, "--workers", "1", "--set", "cluster.workers=1", "--set", "train.steps=20", "--run-dir", filepath.Join(t.TempDir(), "one"))
	for _, road := range []string{"auto", "nats"} {
		t.Run(road, func(t *testing.T) {
			began := time.Now()
			p := start(t, nil, bin.coordinator, "train", job, "--json", "--workers", strconv.Itoa(n), "--set", "cluster.workers="+strconv.Itoa(n), "--threads", "1", "--run-dir", filepath.Join(t.TempDir(), "run"), "--set", "train.steps=20", "--set", "cluster.road="+road)
			pids := map[string]int{}
			for len(pids) < n {
				e := p.event("joined")
				pids[e["worker"].(string)] = int(e["pid"].(float64))
			}
			first := p.event("step")
			t.Logf("first commit after %v", time.Since(began).Round(10*time.Millisecond))
			if by := int(first["world"].(float64)); by != n {
				t.Errorf("the first step was committed by %d workers", by)
			}
			// At once: the steps of a tiny model are quick, and reports of the next ones come some at a time.
			for _, id := range victims {
				if err := syscall.Kill(pids[id], syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			killed, broken := time.Now(), false
			for e := p.event("step"); ; e = p.event("step") {
				if !broken && e["generation"].(float64) > first["generation"].(float64) {
					broken = true
					t.Logf("step %v, by %v workers, was committed %v after %d were killed", e["step"], e["world"], time.Since(killed).Round(10*time.Millisecond), len(victims))
				}
				if e["step"].(float64) == 20 {
					break
				}
			}
			if !broken {
				t.Errorf("%d workers were killed, and the generation went on", len(victims))
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
