package job

import "strings"

// Success is the metric of train.rollout_every: the share of episodes in which a
// checkpoint, acting in the world of its data, did what it was told.
const Success = "success"

// rolloutEpisodes are those of a job that says how often, and not how many.
const rolloutEpisodes = 50

// deriveRollouts fills in what follows from train.rollout_every.
func (j *Job) deriveRollouts(given func(key string) bool) {
	t := &j.Train
	if t.RolloutEvery <= 0 {
		return
	}
	if !given("train.rollout_episodes") {
		t.RolloutEpisodes = rolloutEpisodes
	}
	if !given("train.eval_every") {
		t.EvalEvery = t.RolloutEvery
	}
}

func (j *Job) checkRollouts(c *Checker) {
	t := j.Train
	switch {
	case t.RolloutEvery == 0:
		c.Unused("train.rollout_episodes", t.RolloutEpisodes == 0, "a job without train.rollout_every")
		return
	case t.RolloutEvery < 0 || t.RolloutEvery > maxSteps: // which is said
		return
	}
	c.Within("train.rollout_episodes", t.RolloutEpisodes, 1, 100_000)
	if _, ok := j.Data.Options.(Simulated); !ok && j.Data.Options != nil {
		instead := "where the data is from: coordinator serve, and tools/rollout (docs/serving.md)"
		if len(setsOf(j.Data.Options)) > 0 {
			instead = "a set at a time: coordinator rollout --data-set NAME"
		}
		c.Bad("train.rollout_every data.kind", "rolls checkpoints out in the world of their data, and that of data.kind %s is not here: leave it out, and measure success %s", j.Data.Kind, instead)
		return
	}
	if t.EvalEvery > 0 && t.RolloutEvery%t.EvalEvery != 0 {
		c.Bad("train.rollout_every train.eval_every", "%d is no multiple of train.eval_every %d: success is measured beside the held-out split; want one such as %d", t.RolloutEvery, t.EvalEvery, multipleNear(t.RolloutEvery, t.EvalEvery))
	} else if t.EvalEvery == 0 {
		c.Bad("train.rollout_every train.eval_every", "success is measured beside the held-out split, and train.eval_every is 0; leave that out, or set it")
	}
}

// checkSuccess checks a metric of checkpoint.best that is one of rollouts.
func (j *Job) checkSuccess(c *Checker, metric string) {
	own, averaged := strings.CutPrefix(metric, Averaged)
	if own != Success {
		return
	}
	if averaged && !j.Optimizer.EMA.Active() {
		c.Bad("checkpoint.best.metric optimizer.ema", "%s is measured with the averaged weights, and there are none; set optimizer.ema: true", metric)
	}
	if j.Train.RolloutEvery == 0 {
		c.Bad("checkpoint.best.metric train.rollout_every", "%s is measured every train.rollout_every steps, which is not set: set it to a multiple of checkpoint.every", metric)
	}
}
