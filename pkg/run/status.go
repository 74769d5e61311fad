package run

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// Status is what a coordinator says of its running job.
type Status struct {
	Job        string         `json:"job"`
	Phase      string         `json:"phase"`
	Step       uint64         `json:"step"`
	Steps      uint64         `json:"steps"`
	Stored     uint64         `json:"stored"` // newest step on the disk
	Generation uint64         `json:"generation"`
	Loss       float64        `json:"loss"`
	Refused    string         `json:"refused,omitempty"` // why the last step made no update; then there is no loss
	SamplesSec float64        `json:"samples_per_s"`
	ETA        string         `json:"eta"`
	Workers    []WorkerStatus `json:"workers"`
	Omitted    int            `json:"omitted,omitempty"` // workers beyond what one message holds
	Note       string         `json:"note,omitempty"`    // of scale: what so many workers do
}

type WorkerStatus struct {
	Worker   string  `json:"worker"`
	Rank     int     `json:"rank"` // -1: none yet
	Host     string  `json:"host"`
	PID      int     `json:"pid"`
	Threads  int     `json:"threads"`
	CPU      string  `json:"cpu"`
	Step     uint64  `json:"step"`
	Phase    string  `json:"phase"`
	Spare    bool    `json:"spare,omitempty"`
	Slowdown float64 `json:"slowdown,omitempty"` // its time a micro-batch over the others' median
}

// Text is the status for people.
func (s *Status) Text() string {
	var out strings.Builder
	loss := fmt.Sprintf("loss %.5f", s.Loss)
	if s.Refused != "" {
		loss = "no update"
	}
	loss = fmt.Sprintf("%s, %.1f samples/s", loss, s.SamplesSec)
	if s.SamplesSec == 0 { // nothing was reported to this coordinator
		loss = "no loss yet"
	}
	stored := "no checkpoint yet"
	if s.Stored > 0 {
		stored = fmt.Sprintf("checkpoint at step %d", s.Stored)
	}
	fmt.Fprintf(&out, "%s: %s, step %d of %d, %s, %s, generation %d, eta %s\n",
		s.Job, s.Phase, s.Step, s.Steps, loss, stored, s.Generation, s.ETA)
	w := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "RANK\tWORKER\tHOST\tPID\tTHREADS\tCPU\tSTEP\tPHASE")
	for _, m := range s.Workers {
		rank, phase := strconv.Itoa(m.Rank), m.Phase
		if m.Rank < 0 {
			rank = "-"
		}
		if m.Spare {
			phase += ", spare"
		}
		if m.Slowdown > 1.5 {
			phase += fmt.Sprintf(", %.1f× slower", m.Slowdown)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%d\t%s\n", rank, m.Worker, m.Host, m.PID, m.Threads, m.CPU, m.Step, phase)
	}
	w.Flush()
	if s.Omitted > 0 {
		fmt.Fprintf(&out, "… and %d more\n", s.Omitted)
	}
	if s.Note != "" {
		fmt.Fprintln(&out, s.Note)
	}
	return out.String()
}

// status runs on the coordinator's goroutine.
func (s *session) status(p cluster.Phase, members []cluster.Member) any {
	last := s.rec.last
	is := Status{Job: s.job.Name, Phase: p.String(), Step: last.Step, Steps: uint64(s.job.Train.Steps), Generation: last.Generation,
		Loss: last.Loss, Refused: last.Refused, SamplesSec: last.SamplesSec, Workers: []WorkerStatus{}}
	is.Stored, is.ETA = s.Standing()
	is.Note, s.word = s.word, ""
	size := 0
	for i, m := range members {
		w := WorkerStatus{m.Worker, m.Rank, m.Host, m.PID, m.Threads, m.CPU, m.Step, m.Phase, m.Spare, m.Slowdown}
		b, err := json.Marshal(w)
		if size += len(b) + 1; err != nil || size > limits.Message/2 {
			is.Omitted = len(members) - i
			break
		}
		is.Workers = append(is.Workers, w)
	}
	return is
}

// scaled is told that somebody wants n workers. What that does is told to both
// who asks and who reads the log.
func (s *session) scaled(n int) {
	if s.word = scaleWord(n, s.job.Groups(), s.opt.Local, s.opt.Threads, runtime.GOMAXPROCS(0)); s.word != "" {
		s.log.Warn(s.word)
	}
	s.aside.do(func() { s.children.scale(n) })
}

// scaleWord says what of n workers is of no use to a job with so many
// micro-batches a step, whose workers of this machine compute with threads each.
func scaleWord(n, micro, local, threads, cores int) string {
	var words []string
	if n > micro {
		words = append(words, fmt.Sprintf("a step has %d micro-batches, so %d of %d workers will compute nothing: they follow each step and step in where one is lost; a smaller batch.micro has work for more", micro, n-micro, n))
	}
	if local > 0 && n > local && n*threads > cores {
		words = append(words, fmt.Sprintf("%d workers of %d thread(s) share the %d core(s) of this machine", n, threads, cores))
	}
	return strings.Join(words, "; ")
}
