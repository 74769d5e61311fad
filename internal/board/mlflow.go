package board

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vlaring/vlaring/pkg/run"
)

// mlflow sends to an MLflow tracking server. A point that is sent twice is there twice,
// so what the server has of each metric is asked first, and no older point is sent: the
// points of a metric go in the order of steps, and a server takes a request whole.
type mlflow struct {
	client
	run    string
	newest map[string]uint64 // step, by metric, that the server has
}

// mlflowMetric is a point.
type mlflowMetric struct {
	Key       string  `json:"key"`
	Value     float64 `json:"value"`
	Timestamp int64   `json:"timestamp"` // ms
	Step      int64   `json:"step"`
}

type mlflowTag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type mlflowRun struct {
	Info struct {
		RunID string `json:"run_id"`
	} `json:"info"`
}

// runTag has the identity of a run, by which it is found again.
const runTag = "vlaring.run"

const mlflowAPI = "/api/2.0/mlflow/"

func (m *mlflow) Open(ctx context.Context, a run.About) (has run.Has, err error) {
	is, err := identify(a)
	if err != nil {
		return has, err
	}
	experiment, err := m.experiment(ctx, a.Job.Name)
	if err != nil {
		return has, err
	}
	var found struct {
		Runs []mlflowRun `json:"runs"`
	}
	if err := m.call(ctx, "POST", mlflowAPI+"runs/search", map[string]any{"experiment_ids": []string{experiment}, "filter": fmt.Sprintf("tags.`%s` = '%s'", runTag, is.ID), "max_results": 1}, &found); err != nil {
		return has, err
	}
	if len(found.Runs) > 0 {
		m.run = found.Runs[0].Info.RunID
		err = m.update(ctx, "RUNNING")
	} else {
		err = m.create(ctx, a, is, experiment)
	}
	if err != nil {
		return has, err
	}
	known, err := m.ask(ctx)
	if err != nil {
		return has, err
	}
	return has, m.describe(ctx, a, known)
}

// experiment is the id of the job's.
func (m *mlflow) experiment(ctx context.Context, name string) (string, error) {
	var got struct {
		Experiment struct {
			ID string `json:"experiment_id"`
		} `json:"experiment"`
		ID string `json:"experiment_id"`
	}
	err := m.call(ctx, "GET", mlflowAPI+"experiments/get-by-name?experiment_name="+url.QueryEscape(name), nil, &got)
	var status *statusError
	if errors.As(err, &status) && strings.Contains(status.text, "RESOURCE_DOES_NOT_EXIST") {
		err = m.call(ctx, "POST", mlflowAPI+"experiments/create", map[string]any{"name": name}, &got)
	}
	return cmp.Or(got.Experiment.ID, got.ID), err
}

// maxParam is what every MLflow takes of a parameter's value.
const maxParam = 500

func (m *mlflow) create(ctx context.Context, a run.About, is identity, experiment string) error {
	tags := []mlflowTag{{runTag, is.ID}, {"vlaring.version", a.Version}, {"vlaring.dir", a.Dir}, {"mlflow.runName", runName(a, is)}, {"mlflow.note.content", jobText(a)}}
	var made struct {
		Run mlflowRun `json:"run"`
	}
	if err := m.call(ctx, "POST", mlflowAPI+"runs/create", map[string]any{"experiment_id": experiment, "run_name": runName(a, is), "start_time": time.Now().UnixMilli(), "tags": tags}, &made); err != nil {
		return err
	}
	m.run = made.Run.Info.RunID
	return nil
}

// describe sends the keys of the job that the server has not got: those that it has are
// never changed, by its rules.
func (m *mlflow) describe(ctx context.Context, a run.About, known map[string]bool) error {
	var params []mlflowTag
	for _, c := range run.Keys(a.Job) {
		if key := strings.NewReplacer("[", ".", "]", "").Replace(c[0]); len(c[1]) <= maxParam && !known[key] {
			params = append(params, mlflowTag{key, c[1]})
		}
	}
	for part := range slices.Chunk(params, 100) {
		if err := m.call(ctx, "POST", mlflowAPI+"runs/log-batch", map[string]any{"run_id": m.run, "params": part}, nil); err != nil {
			return err
		}
	}
	return nil
}

// ask finds out what the server has, and which keys of the job.
func (m *mlflow) ask(ctx context.Context) (params map[string]bool, err error) {
	var got struct {
		Run struct {
			Data struct {
				Metrics []struct {
					Key  string   `json:"key"`
					Step flexible `json:"step"`
				} `json:"metrics"`
				Params []mlflowTag `json:"params"`
			} `json:"data"`
		} `json:"run"`
	}
	if err := m.call(ctx, "GET", mlflowAPI+"runs/get?run_id="+url.QueryEscape(m.run), nil, &got); err != nil {
		return nil, err
	}
	m.newest = map[string]uint64{}
	for _, x := range got.Run.Data.Metrics {
		m.newest[x.Key] = uint64(x.Step)
	}
	params = map[string]bool{}
	for _, p := range got.Run.Data.Params {
		params[p.Key] = true
	}
	return params, nil
}

// flexible is a number that a server may write as a text: protobuf's JSON does so.
type flexible uint64

func (f *flexible) UnmarshalJSON(b []byte) error {
	_, err := fmt.Sscan(strings.Trim(string(b), `"`), (*uint64)(f))
	return err
}

// mlflowKey is a name that MLflow takes.
func mlflowKey(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '[' || r == ']' || r > 127 {
			return -1
		}
		return r
	}, name)
}

func (m *mlflow) Put(ctx context.Context, r run.Records) error {
	if m.newest == nil { // a request has failed: perhaps it was done
		if _, err := m.ask(ctx); err != nil {
			return err
		}
	}
	var points []mlflowMetric
	add := func(step uint64, at time.Time, numbers []number) {
		if at.IsZero() {
			at = time.Now()
		}
		for _, n := range finiteOnly(numbers) {
			key := mlflowKey(n.name)
			if newest, ok := m.newest[key]; !ok || step > newest {
				points = append(points, mlflowMetric{key, n.value, at.UnixMilli(), int64(step)})
			}
		}
	}
	for _, x := range r.Steps {
		add(x.Step, x.At, stepNumbers(x))
	}
	for _, x := range r.Measured {
		add(x.Step, x.At, measuredNumbers(x))
	}
	for part := range slices.Chunk(points, 900) { // it takes 1,000
		if err := m.call(ctx, "POST", mlflowAPI+"runs/log-batch", map[string]any{"run_id": m.run, "metrics": part}, nil); err != nil {
			m.newest = nil
			return err
		}
		for _, p := range part {
			m.newest[p.Key] = uint64(p.Step)
		}
	}
	return nil
}

func (m *mlflow) update(ctx context.Context, status string) error {
	in := map[string]any{"run_id": m.run, "status": status}
	if status != "RUNNING" {
		in["end_time"] = time.Now().UnixMilli()
	}
	return m.call(ctx, "POST", mlflowAPI+"runs/update", in, nil)
}

func (m *mlflow) Close(ctx context.Context, finished bool) error {
	if finished {
		return m.update(ctx, "FINISHED")
	}
	return m.update(ctx, "KILLED")
}
