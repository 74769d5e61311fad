//go:build unix

package cluster

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// cpuTime is what this process has computed for so far.
func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The coordinator's work for one step of so many workers: their reports, a
// heartbeat of each, and all that follows from them.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{8, 64, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b, n)
			defer w.end()
			for range 12 { // pace is known
				w.commit(b)
			}
			b.ReportAllocs()
			b.ResetTimer()
			began := cpuTime(b)
			for range b.N {
				w.commit(b)
			}
			b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}
