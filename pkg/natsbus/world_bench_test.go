//go:build unix

package natsbus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// What members at rest cost over an embedded server: heartbeats, their answers
// and probes, with the intervals that a job has that says nothing of them. All is
// one process: coordinator, server and the members' ends. One op is a second.
func BenchmarkMembersAtRest(b *testing.B) {
	for _, n := range []int{8, 64, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { atRest(b, n) })
	}
}

func atRest(b *testing.B, n int) {
	broker, err := StartBroker(BrokerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Shutdown()
	ctx, cancel := context.WithCancel(context.Background())
	connectTo := func(member string) *Conn {
		c, err := Connect(ctx, broker.URL(), Credentials{Token: broker.Token()}, ConnOptions{Job: "job", Member: member})
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	head := connectTo("coordinator")
	defer head.Close()
	var members atomic.Int64
	coord := cluster.NewCoordinator(head.Bus(), "job", "host", 1, cluster.Hooks{
		Welcome:  func(*cluster.Join) *cluster.Welcome { return &cluster.Welcome{} },
		StepDone: func([]*cluster.Report) {}, Scaled: func(int) {}, Dropped: func(string) {}, Note: func(string) {},
		Members: func(_ cluster.Phase, l []cluster.Member) { members.Store(int64(len(l))) },
	})
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		coord.Run(ctx, cluster.Config{Coordinator: "lead", Workers: n + 1, MinWorkers: n + 1, Micro: n, Steps: 9, Deadline: time.Second, JoinTimeout: time.Hour})
	})
	for i := range n {
		id := fmt.Sprintf("w%d", i)
		c := connectTo(id)
		defer c.Close()
		a, _, err := cluster.JoinJob(ctx, c.Bus(), "job", cluster.Join{Protocol: cluster.Protocol, Worker: id, Host: "host", PID: i + 1})
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			defer a.Close()
			t := time.NewTicker(200 * time.Millisecond)
			defer t.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-a.Inbox():
				case <-t.C:
					a.Tell(&cluster.Heartbeat{Worker: id, Coordinator: "lead", Phase: "at rest"})
				}
			}
		})
	}
	for members.Load() != int64(n) {
		time.Sleep(time.Millisecond)
	}
	in, began := head.control.Stats(), used(b)
	b.ResetTimer()
	time.Sleep(time.Duration(b.N) * time.Second)
	b.StopTimer()
	out := head.control.Stats()
	seconds := float64(b.N)
	b.ReportMetric((used(b)-began).Seconds()/seconds*1e3, "cpu-ms/s")
	b.ReportMetric(float64(out.InMsgs-in.InMsgs)/seconds, "heard/s")
	b.ReportMetric(float64(out.OutMsgs-in.OutMsgs)/seconds, "said/s")
	if members.Load() != int64(n) {
		b.Errorf("%d of %d members are left", members.Load(), n)
	}
}

// used is the processor time of this process.
func used(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
