package board

import (
	"context"
	"fmt"

	"github.com/vlaring/vlaring/pkg/run"
)

// trackio sends to the server of `trackio show`. Each record has a name of its own
// (log_id), which the server takes once: so all that may have been lost is sent again.
type trackio struct {
	client
	project, run string
	config       map[string]any
}

// trackioLog is one entry of a run.
type trackioLog struct {
	Project string             `json:"project"`
	Run     string             `json:"run"`
	Metrics map[string]float64 `json:"metrics"`
	Step    uint64             `json:"step"`
	Config  map[string]any     `json:"config,omitempty"`
	LogID   string             `json:"log_id"`
}

func (t *trackio) Open(ctx context.Context, a run.About) (run.Has, error) {
	is, err := identify(a)
	if err != nil {
		return run.Has{}, err
	}
	var version map[string]any
	if err := t.call(ctx, "GET", "/version", nil, &version); err != nil {
		return run.Has{}, err
	}
	t.project, t.run = a.Job.Name, runName(a, is)
	t.config = map[string]any{"job": string(a.Job.YAML()), "vlaring": a.Version, "run_dir": a.Dir}
	if a.Parameters > 0 { // of a run that is sent when it is over they are not known
		t.config["parameters"] = a.Parameters
	}
	return run.Has{}, nil // the server knows what it has by name
}

func (t *trackio) Put(ctx context.Context, r run.Records) error {
	var logs []trackioLog
	add := func(kind string, step uint64, numbers []number) {
		l := trackioLog{Project: t.project, Run: t.run, Metrics: map[string]float64{}, Step: step, LogID: fmt.Sprintf("%s/%s/%d", t.run, kind, step)}
		for _, n := range finiteOnly(numbers) {
			l.Metrics[n.name] = n.value
		}
		logs = append(logs, l)
	}
	for _, m := range r.Steps {
		add("step", m.Step, stepNumbers(m))
	}
	for _, m := range r.Measured {
		add("measured", m.Step, measuredNumbers(m))
	}
	const atOnce = 500
	for len(logs) > 0 {
		n := min(len(logs), atOnce)
		if t.config != nil {
			logs[0].Config = t.config
		}
		var answer struct {
			Error any `json:"error"`
		}
		in := map[string]any{"args": []any{}, "kwargs": map[string]any{"logs": logs[:n], "hf_token": nil}}
		if err := t.call(ctx, "POST", "/api/bulk_log", in, &answer); err != nil {
			return err
		}
		if answer.Error != nil {
			return fmt.Errorf("trackio: %v", answer.Error)
		}
		logs, t.config = logs[n:], nil
	}
	return nil
}

func (t *trackio) Close(context.Context, bool) error { return nil }
