package job

import (
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/s3url"
)

// multipleNear is the multiple of every that is nearest to n, and not 0.
func multipleNear(n, every int) int { return max(1, (n+every/2)/every) * every }

// checkCheckpoint checks what is stored, measured and kept.
func (j *Job) checkCheckpoint(c *Checker) {
	k := j.Checkpoint
	every := c.Within("checkpoint.every", k.Every, 0, maxSteps)
	keep := c.Within("checkpoint.keep", k.Keep, 0, maxSteps)
	if k.Wait < 0 || k.Wait > Duration(7*24*time.Hour) {
		c.Bad("checkpoint.wait", "%v is outside 0s to 168h", k.Wait)
	}
	if k.Upload != "" {
		if _, err := s3url.Parse(k.Upload); err != nil {
			c.Bad("checkpoint.upload", "%v", err)
		}
	}
	multiple := func(key string, n int) {
		switch {
		case !c.Within(key, n, 0, maxSteps) || n == 0 || !every:
		case k.Every == 0:
			c.Bad(key+" checkpoint.every", "%d has no meaning with checkpoint.every 0, which stores the last step only", n)
		case n%k.Every != 0:
			c.Bad(key+" checkpoint.every", "%d is no multiple of checkpoint.every %d: not all of these steps are stored; want one such as %d", n, k.Every, multipleNear(n, k.Every))
		}
	}
	multiple("checkpoint.keep_every", k.KeepEvery)
	if multiple("train.rollout_every", j.Train.RolloutEvery); j.Train.EvalEvery != j.Train.RolloutEvery { // which it follows from
		multiple("train.eval_every", j.Train.EvalEvery)
	}
	j.checkRollouts(c)
	if j.Train.EvalEvery > 0 && !j.holdsOut() {
		c.Bad("train.eval_every data.holdout", "there is no held-out split to measure on; set data.holdout.fraction, .episodes, .split or .path")
	}
	b := k.Best
	if b == (Best{}) {
		if keep && k.Keep == 0 && k.KeepEvery > 0 {
			c.Bad("checkpoint.keep_every checkpoint.keep", "checkpoint.keep 0 keeps all checkpoints already")
		}
		return
	}
	c.Within("checkpoint.best.count", b.Count, 1, maxSteps)
	if keep && k.Keep == 0 {
		c.Bad("checkpoint.best.count checkpoint.keep", "checkpoint.keep 0 keeps all checkpoints already")
	}
	var all []string
	for _, m := range j.kinds.Metrics() {
		all = append(all, m.Name)
	}
	if !c.OneOf("checkpoint.best.metric", b.Metric, all) {
		return
	}
	c.Unused("checkpoint.best.metric model.kind", j.Loss.Options == nil || j.Model.Options == nil || j.kinds.measured(b.Metric, j.Loss.Kind), "model.kind "+j.Model.Kind)
	j.checkSuccess(c, b.Metric)
	if strings.HasPrefix(b.Metric, Held+Averaged) && !j.Optimizer.EMA.Active() {
		c.Bad("checkpoint.best.metric optimizer.ema", "%s is measured with the averaged weights, and there are none; set optimizer.ema: true", b.Metric)
	}
	if strings.HasPrefix(b.Metric, Held) && j.Train.EvalEvery == 0 {
		c.Bad("checkpoint.best.metric train.eval_every", "%s is measured every train.eval_every steps, which is not set: set it to a multiple of checkpoint.every", b.Metric)
	}
}
