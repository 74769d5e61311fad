package view

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/run"
)

// state is what is shown of a run.
type state struct {
	name    string
	steps   uint64
	first   uint64 // committed steps when the run began
	begun   uint64 // first step that was shown, at start; 0: none
	start   time.Time
	last    run.Metrics
	losses  curve
	members []cluster.Member
	phase   cluster.Phase
	stored  uint64 // step of the newest checkpoint; 0: none
}

// step takes a committed step.
func (s *state) step(m run.Metrics, now time.Time) {
	if s.begun == 0 {
		s.start, s.begun = now, m.Step
	}
	s.last = m
	if m.Refused == "" {
		s.losses.add(m.Loss)
	}
}

// eta extrapolates from the pace of this run, since its first step: what came
// before, loading and waiting for workers, does not come again.
func (s *state) eta(now time.Time) string {
	if s.begun == 0 || s.last.Step <= s.begun {
		return "-"
	}
	done := s.last.Step - s.begun
	left := now.Sub(s.start).Seconds() / float64(done) * float64(s.steps-s.last.Step)
	return (time.Duration(left) * time.Second).String()
}

// line is a step for whoever reads lines.
func (s *state) line(now time.Time) string {
	m := s.last
	learned := fmt.Sprintf("loss %.5f  lr %.2e  grad norm %.3f", m.Loss, m.LR, m.GradNorm)
	if m.Refused != "" {
		learned = "no update"
	}
	return fmt.Sprintf("step %d/%d  %s  %.1f samples/s  %s  eta %s", m.Step, s.steps, learned, m.SamplesSec, plain.Workers(m.World), s.eta(now))
}

const (
	barWidth = 30

	shownMembers = 16 // more would not fit a screen, which is drawn in place
)

// block is what stands at the end of a terminal: lines that are narrower than
// it, so that none wraps and all can be drawn over.
//
//	NAME  PHASE  step 12/100  ███░░░  12%  eta 1m2s
//	loss …  ▇▅▃▂  grad norm …  lr …  samples/s  checkpoint at step 10
//	slowest rank, ms: data …  forward …  backward …  ring (not hidden) …  optimizer …
//	  rank 0  w0  HOST, pid …, threads, CPU  step 12  training
func (s *state) block(width int, now time.Time) (lines []string) {
	line := func(f string, args ...any) {
		r := []rune(fmt.Sprintf(f, args...))
		if len(r) >= width {
			r = r[:width-1]
		}
		lines = append(lines, string(r))
	}
	m := s.last
	share := float64(m.Step) / math.Max(float64(s.steps), 1)
	full := int(share * barWidth)
	line("%s  %s  step %d/%d  %s%s %3.0f%%  eta %s", s.name, s.phase, m.Step, s.steps,
		strings.Repeat("█", full), strings.Repeat("░", barWidth-full), 100*share, s.eta(now))
	if m.Step > s.first {
		stored := "no checkpoint yet"
		if s.stored > 0 {
			stored = fmt.Sprintf("checkpoint at step %d", s.stored)
		}
		if m.Refused == "" {
			line("loss %.5f %s  grad norm %.3f  lr %.2e  %.1f samples/s  %s", m.Loss, spark(s.losses.points), m.GradNorm, m.LR, m.SamplesSec, stored)
		} else {
			line("no update %s  %.1f samples/s  %s", spark(s.losses.points), m.SamplesSec, stored)
		}
		t := m.Time
		line("slowest rank, ms: data %.1f  forward %.1f  backward %.1f  ring (not hidden) %.1f  optimizer %.1f",
			1e3*t.Data, 1e3*t.Forward, 1e3*t.Backward, 1e3*t.Ring, 1e3*t.Optimizer)
	}
	for i, w := range s.members {
		if i == shownMembers {
			line("  … and %d more", len(s.members)-i)
			break
		}
		rank := "-"
		if w.Rank >= 0 {
			rank = fmt.Sprint(w.Rank)
		}
		phase := w.Phase
		if w.Spare {
			phase += ", spare"
		}
		if w.Slowdown > 1.5 {
			phase += fmt.Sprintf(", %.1f× slower", w.Slowdown)
		}
		line("  rank %-2s %-12s %s, pid %d, %d thread(s), %s  step %d  %s", rank, w.Worker, w.Host, w.PID, w.Threads, w.CPU, w.Step, phase)
	}
	return lines
}
