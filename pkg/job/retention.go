package job

import (
	"strings"
	"time"
)

// checkCheckpoint checks what is stored, measured and kept.
func (j *Job) checkCheckpoint(c *checker) {
	k := j.Checkpoint
	every := c.within("checkpoint.every", k.Every, 0, maxSteps)
	keep := c.within("checkpoint.keep", k.Keep, 0, maxSteps)
	if k.Wait < 0 || k.Wait > Duration(7*24*time.Hour) {
		c.bad("checkpoint.wait", "%v is outside 0s to 168h", k.Wait)
	}
	multiple := func(key string, n int) {
		switch {
		case !c.within(key, n, 0, maxSteps) || n == 0 || !every:
		case k.Every == 0:
			c.bad(key+" checkpoint.every", "%d has no meaning with checkpoint.every 0, which stores the last step only", n)
		case n%k.Every != 0:
			c.bad(key+" checkpoint.every", "%d is no multiple of checkpoint.every %d: not all of these steps are stored", n, k.Every)
		}
	}
	multiple("checkpoint.keep_every", k.KeepEvery)
	multiple("train.eval_every", j.Train.EvalEvery)
	if j.Train.EvalEvery > 0 && j.Data.Holdout.Fraction == 0 && len(j.Data.Holdout.Episodes) == 0 && j.Data.Holdout.Split == "" && j.Data.Holdout.Path == "" {
		c.bad("train.eval_every data.holdout", "there is no held-out split to measure on; set data.holdout.fraction, .episodes, .split or .path")
	}
	b := k.Best
	if b == (Best{}) {
		if keep && k.Keep == 0 && k.KeepEvery > 0 {
			c.bad("checkpoint.keep_every checkpoint.keep", "checkpoint.keep 0 keeps all checkpoints already")
		}
		return
	}
	c.within("checkpoint.best.count", b.Count, 1, maxSteps)
	if keep && k.Keep == 0 {
		c.bad("checkpoint.best.count checkpoint.keep", "checkpoint.keep 0 keeps all checkpoints already")
	}
	if !c.oneOf("checkpoint.best.metric", b.Metric, bestMetrics) {
		return
	}
	switch kind := "model.kind " + j.Model.Kind; b.Metric {
	case "heldout_accuracy":
		c.unused("checkpoint.best.metric model.kind", namesTokens(j.Model.Kind), kind)
	case "heldout_l1":
		c.unused("checkpoint.best.metric model.kind", !namesTokens(j.Model.Kind), kind)
	}
	if strings.HasPrefix(b.Metric, "heldout_") && j.Train.EvalEvery == 0 {
		c.bad("checkpoint.best.metric train.eval_every", "%s is measured every train.eval_every steps, which is not set", b.Metric)
	}
}
