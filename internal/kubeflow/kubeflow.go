// Package kubeflow tells Kubeflow Trainer (v2.2 and later) how far a TrainJob is: its
// trainer pods are given the URL of a status, an authority's certificate and a token,
// and what is sent there stands in the TrainJob's status.trainerStatus. Of a run's
// workers the first rank speaks. Nothing waits for it.
package kubeflow

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vlaring/vlaring/pkg/worker"
)

// The environment of a trainer pod.
const (
	urlEnv   = "KUBEFLOW_TRAINER_SERVER_URL"
	caEnv    = "KUBEFLOW_TRAINER_SERVER_CA_CERT" // a file
	tokenEnv = "KUBEFLOW_TRAINER_SERVER_TOKEN"   // a file, written anew before it expires
)

// every is how often progress is told; Trainer asks for five seconds at least.
const every = 10 * time.Second

// reporter tells of one worker.
type reporter struct {
	url, ca, token string
	standing       func() worker.Standing
	warn           func(text string)
	client         *http.Client
	silent         bool // that it does not work has been said

	began     time.Time // when the first step was seen, and which it was
	beganStep uint64
}

// Report tells of a worker until end is called, where this is a pod of a TrainJob, and
// once more then. Elsewhere it does nothing.
func Report(getenv func(string) string, standing func() worker.Standing, warn func(text string)) (end func()) {
	return report(getenv, standing, warn, every)
}

func report(getenv func(string) string, standing func() worker.Standing, warn func(text string), every time.Duration) (end func()) {
	r := &reporter{url: getenv(urlEnv), ca: getenv(caEnv), token: getenv(tokenEnv), standing: standing, warn: warn}
	if r.url == "" {
		return func() {}
	}
	r.client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // the token is for this address alone
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				r.tell()
			case <-stop:
				r.tell()
				return
			}
		}
	}()
	return func() { close(stop); <-done }
}

// status is what is sent.
type status struct {
	Trainer trainerStatus `json:"trainerStatus"`
}

type trainerStatus struct {
	Percent   int       `json:"progressPercentage"`
	Remaining *int64    `json:"estimatedRemainingSeconds,omitempty"`
	Metrics   []metric  `json:"metrics"`
	At        time.Time `json:"lastUpdatedTime"`
}

type metric struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// tell sends where the worker stands, if it is the one that speaks.
func (r *reporter) tell() {
	s := r.standing()
	if s.Rank != 0 || s.Planned == 0 || s.Steps == 0 {
		return
	}
	now := time.Now()
	if r.began.IsZero() {
		r.began, r.beganStep = now, s.Step
	}
	err := r.send(progress(s, now, now.Sub(r.began), s.Step-min(r.beganStep, s.Step)))
	switch {
	case err != nil && !r.silent:
		r.silent = true
		r.warn(fmt.Sprintf("the TrainJob's status is not told how far the run is: %v; training goes on, it is tried again, and this is said once", err))
	case err == nil:
		r.silent = false
	}
}

// progress is a status after so many steps in took.
func progress(s worker.Standing, now time.Time, took time.Duration, steps uint64) status {
	t := trainerStatus{Percent: int(100 * s.Step / s.Planned), At: now.UTC().Truncate(time.Second), Metrics: []metric{{"step", strconv.FormatUint(s.Step, 10)}, {"steps", strconv.FormatUint(s.Planned, 10)}}}
	if !math.IsNaN(s.Loss) {
		t.Metrics = append(t.Metrics, metric{"loss", strconv.FormatFloat(s.Loss, 'g', 6, 64)})
	}
	if left := s.Planned - min(s.Step, s.Planned); left == 0 || steps > 0 {
		seconds := int64(0)
		if left > 0 {
			seconds = int64(math.Ceil(took.Seconds() / float64(steps) * float64(left)))
			t.Metrics = append(t.Metrics, metric{"steps_per_second", strconv.FormatFloat(float64(steps)/took.Seconds(), 'g', 4, 64)})
		}
		t.Remaining = &seconds
	}
	return status{t}
}

func (r *reporter) send(s status) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(context.Background(), http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if q.URL.Scheme != "https" {
		return fmt.Errorf("%s is %q: want an https:// URL, for a token goes there", urlEnv, r.url)
	}
	token, err := os.ReadFile(r.token)
	if err != nil {
		return fmt.Errorf("%s: %w", tokenEnv, err)
	}
	ca, err := os.ReadFile(r.ca)
	if err != nil {
		return fmt.Errorf("%s: %w", caEnv, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return fmt.Errorf("%s: %s has no certificate", caEnv, r.ca)
	}
	r.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	a, err := r.client.Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(a.Body, 300))
	if a.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", a.Status, strings.Join(strings.Fields(string(text)), " "))
	}
	return nil
}
