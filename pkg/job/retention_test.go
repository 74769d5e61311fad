package job_test

import (
	"strings"
	"testing"

	. "github.com/vlaring/vlaring/pkg/job"
)

func TestRetentionKeys(t *testing.T) {
	for _, c := range []struct {
		text, want string // want: the message's end; empty: none
		best       Best
	}{
		{"checkpoint: {every: 10, keep: 2, keep_every: 50}", "", Best{}},
		{"checkpoint: {every: 10, best: {count: 2}}", "", Best{"loss", 2}},
		{"checkpoint: {every: 10, best: {metric: heldout_l1}}\ntrain: {eval_every: 20}", "", Best{"heldout_l1", 1}},
		{"checkpoint: {every: 10, keep_every: 25}", "j.yaml:3:37: checkpoint.keep_every: 25 is no multiple of checkpoint.every 10: not all of these steps are stored; want one such as 30", Best{}},
		{"checkpoint: {every: 0, keep_every: 25}", "checkpoint.keep_every: 25 has no meaning with checkpoint.every 0, which stores the last step only", Best{}},
		{"checkpoint: {keep: 0, keep_every: 100}", "checkpoint.keep_every: checkpoint.keep 0 keeps all checkpoints already", Best{}},
		{"checkpoint: {keep: 0, best: {count: 1}}", "checkpoint.best.count: checkpoint.keep 0 keeps all checkpoints already", Best{}},
		{"checkpoint: {best: {metric: los}}", `checkpoint.best.metric: "los" is unknown; did you mean loss?`, Best{}},
		{"checkpoint: {best: {metric: loss, count: 0}}", "checkpoint.best.count: 0 is too small; want at least 1", Best{}},
		{"checkpoint: {best: {metric: heldout_loss}}", "checkpoint.best.metric: heldout_loss is measured every train.eval_every steps, which is not set: set it to a multiple of checkpoint.every", Best{}},
		{"checkpoint: {best: {metric: heldout_accuracy}}\ntrain: {eval_every: 100}", "checkpoint.best.metric: has no meaning for model.kind vla; leave it out", Best{}},
		{"train: {eval_every: 150}", "train.eval_every: 150 is no multiple of checkpoint.every 100: not all of these steps are stored; want one such as 200", Best{}},
		{"train: {eval_every: 100}\nmodel: {kind: vla}\n", "", Best{}},
	} {
		j, err := kinds.Parse("j.yaml", []byte(ok+c.text), nil)
		if c.want != "" {
			if err == nil || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("%s: error %v\nwant %s", c.text, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if j.Checkpoint.Best != c.best {
			t.Errorf("%s: best %+v, want %+v", c.text, j.Checkpoint.Best, c.best)
		}
		sameAgain(t, j)
	}
	_, err := kinds.Parse("j.yaml", []byte("name: a\ndata: {kind: tabletop, holdout: {fraction: 0}}\ntrain: {eval_every: 100}"), nil)
	if err == nil || !strings.Contains(err.Error(), "there is no held-out split to measure on") {
		t.Errorf("without a held-out split: %v", err)
	}
}
