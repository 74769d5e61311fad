package checkpoint_test

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/checkpoint/storetest"
)

// Readers look on while checkpoints are stored, stored again in place and
// removed: none ever sees a damaged one, each finds one that verifies, and it
// is at most one older than the newest that was there when it began to look.
func TestReadersBesideAWriter(t *testing.T) {
	d := open(t)
	var committed atomic.Uint64
	save := func(step uint64) {
		if err := storetest.Write(d, state(step)); err != nil {
			t.Error(err)
		}
		committed.Store(max(committed.Load(), step))
	}
	save(1)
	save(2)
	done := make(chan struct{})
	var readers sync.WaitGroup
	var looks atomic.Int64
	for range 3 {
		readers.Go(func() {
			for {
				newest := committed.Load()
				found, err := checkpoint.LatestGood(d.Dir())
				if err != nil || found.Manifest.Step+1 < newest {
					t.Errorf("with step %d committed: LatestGood gives step %d, %v", newest, found.Manifest.Step, err)
				}
				for _, p := range found.Passed {
					if filepath.Base(p.Dir) != "latest" { // a hint, which may be of another moment
						t.Errorf("passed over %s: %s", p.Dir, p.Reason)
					}
				}
				l, err := checkpoint.List(d.Dir())
				if err != nil {
					t.Error(err)
				}
				for _, e := range l {
					if e.State != checkpoint.Complete {
						t.Errorf("listed as damaged: %+v", e)
					}
				}
				looks.Add(1)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for step := uint64(3); step < 20; step++ {
		save(step)
		l, err := d.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, dec := range checkpoint.Retain(l, checkpoint.Policy{Keep: 2}, nil, nil) {
			if !dec.Keep {
				if err := d.Remove(dec.Step); err != nil {
					t.Error(err)
				}
			}
		}
		if step%3 == 0 {
			save(step) // the same again, in its place
		}
	}
	close(done)
	readers.Wait()
	t.Logf("%d looks", looks.Load())
	if l, err := d.List(); err != nil || len(l) != 2 || l[1].Step != 19 {
		t.Errorf("in the end there are %+v, %v", l, err)
	}
}
