package run

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
)

// A server in a process that may not open enough files for the job's workers is
// refused before it starts, with the number to type.
func TestConnectionsThatCannotBe(t *testing.T) {
	k := job.Cluster{Workers: 1000, Topology: "broker"}
	if err := roomForConnections(k, 4096); err != nil {
		t.Error(err)
	}
	k.Workers = 2000
	if err := roomForConnections(k, 4096); err == nil || !strings.Contains(err.Error(), "ulimit -n 6067") {
		t.Errorf("2000 workers and 4096 files: %v", err)
	}
	k.Topology = "mesh" // each has a server of its own
	if err := roomForConnections(k, 4096); err != nil {
		t.Error(err)
	}
}

// What status says of many workers fits a message.
func TestStatusOfManyWorkersFitsAMessage(t *testing.T) {
	s := &session{beginning: &beginning{job: &job.Job{Name: "job"}}, voice: voice{Screen: quiet{}}, rec: &recorder{}}
	var members []cluster.Member
	for i := range limits.Workers {
		members = append(members, cluster.Member{Join: cluster.Join{Worker: fmt.Sprintf("w%d", i), Host: strings.Repeat("h", 200)}, Phase: strings.Repeat("p", 500)})
	}
	b, err := json.Marshal(s.status(cluster.Running, members))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(cluster.Encode(&cluster.Answered{Status: b})); n > limits.Message {
		t.Fatalf("it has %d bytes", n)
	}
	var is Status
	if err := json.Unmarshal(b, &is); err != nil {
		t.Fatal(err)
	}
	if len(is.Workers) < 100 || is.Omitted+len(is.Workers) != len(members) {
		t.Errorf("it tells of %d workers and leaves %d of %d out", len(is.Workers), is.Omitted, len(members))
	}
}

// Who asks for more workers than there is work or room for hears what they do.
func TestScaleWord(t *testing.T) {
	for _, c := range []struct {
		n, micro, local, threads, cores int
		want                            []string // in what is said; none: nothing is
	}{
		{40, 6, 3, 1, 2, []string{"a step has 6 micro-batches, so 34 of 40 workers will compute nothing", "40 workers of 1 thread(s) share the 2 core(s)"}},
		{6, 6, 3, 1, 8, nil},
		{2, 6, 3, 4, 2, nil}, // fewer than before
		{8, 6, 0, 1, 2, []string{"2 of 8 workers"}},
		{6, 6, 3, 2, 8, []string{"6 workers of 2 thread(s) share the 8 core(s)"}},
	} {
		got := scaleWord(c.n, c.micro, c.local, c.threads, c.cores)
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%+v: %q", c, got)
			}
		}
		if (got == "") != (c.want == nil) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
