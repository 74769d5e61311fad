package job_test

import (
	"strings"
	"testing"
)

// What follows from train.rollout_every, and what does not go together with it.
func TestRolloutKeys(t *testing.T) {
	const table = "name: a\ndata: {kind: tabletop}\n"
	for _, c := range []struct {
		text, want   string // want: the message's end; empty: none
		episodes, at int
	}{
		{table + "train: {rollout_every: 200}", "", 50, 200},
		{table + "train: {rollout_every: 200, eval_every: 100, rollout_episodes: 7}\ncheckpoint: {best: {metric: success}}", "", 7, 100},
		{table + "train: {rollout_every: 100}\noptimizer: {ema: true}\ncheckpoint: {best: {metric: ema_success}}", "", 50, 100},
		{table, "", 0, 0},
		{table + "train: {rollout_every: 150}", "j.yaml:3:24: train.rollout_every: 150 is no multiple of checkpoint.every 100: not all of these steps are stored; want one such as 200", 0, 0},
		{table + "train: {rollout_every: 300, eval_every: 200}", "j.yaml:3:24: train.rollout_every: 300 is no multiple of train.eval_every 200: success is measured beside the held-out split; want one such as 400", 0, 0},
		{table + "train: {rollout_every: 300, eval_every: 0}", "train.rollout_every: success is measured beside the held-out split, and train.eval_every is 0; leave that out, or set it", 0, 0},
		{table + "train: {rollout_every: -1}", "train.rollout_every: -1 is too small; want at least 0", 0, 0},
		{table + "train: {rollout_every: 100, rollout_episodes: 0}", "train.rollout_episodes: 0 is too small; want at least 1", 0, 0},
		{table + "train: {rollout_episodes: 5}", "j.yaml:3:27: train.rollout_episodes: has no meaning for a job without train.rollout_every; leave it out", 0, 0},
		{table + "checkpoint: {best: {metric: success}}", "checkpoint.best.metric: success is measured every train.rollout_every steps, which is not set: set it to a multiple of checkpoint.every", 0, 0},
		{table + "train: {rollout_every: 100}\ncheckpoint: {best: {metric: ema_success}}", "checkpoint.best.metric: ema_success is measured with the averaged weights, and there are none; set optimizer.ema: true", 0, 0},
		{"name: a\ndata: {kind: rlds, path: x}\ntrain: {rollout_every: 100}", "j.yaml:3:24: train.rollout_every: rolls checkpoints out in the world of their data, and that of data.kind rlds is not here: " +
			"leave it out, and measure success where the data is from: coordinator serve, and tools/rollout (docs/serving.md)", 0, 0},
		{"name: a\ndata: {kind: mixture, sets: [{name: x, kind: tabletop}, {name: y, kind: tabletop}]}\ntrain: {rollout_every: 100}", "and that of data.kind mixture is not here: leave it out, and measure success a set at a time: coordinator rollout --data-set NAME", 0, 0},
	} {
		j, err := kinds.Parse("j.yaml", []byte(c.text), nil)
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
		if j.Train.RolloutEpisodes != c.episodes || j.Train.EvalEvery != c.at {
			t.Errorf("%s: %d episodes, measured every %d steps", c.text, j.Train.RolloutEpisodes, j.Train.EvalEvery)
		}
		if best := j.Best(); j.Checkpoint.Best.Count > 0 && !best.HigherIsBetter {
			t.Errorf("%s: less success is better", c.text)
		}
		sameAgain(t, j)
		if is := j.Computation().Train; is.RolloutEvery != 0 || is.RolloutEpisodes != 0 {
			t.Errorf("%s: workers would be turned away", c.text)
		}
	}
}
