package machine

import (
	"math"
	"os"
	"path"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Threads is how many threads may compute: the processors that Go uses, and no more
// than whole cores of what the control groups of this process allow. A thread beyond
// that would only use up the allowance, after which all of them stand still
// for the rest of a period, and with them every rank that waits. The fraction
// of a core that is left is for what else a process does.
func Threads() int { return threads(runtime.GOMAXPROCS(0), os.Getenv("GOMAXPROCS") != "", read) }

func threads(procs int, chosen bool, f files) int {
	if chosen {
		return procs
	}
	return whole(procs, f)
}

// Cores is how many threads of any processes here may run at a time: the processors
// that the kernel lets this process run on, and no more than whole cores of what its control
// groups allow, whatever GOMAXPROCS says. At least 1.
func Cores() int { return whole(runtime.NumCPU(), read) }

// whole is n, or the whole cores that the control groups allow where those are fewer.
func whole(n int, f files) int {
	if quota := cores(f); quota < float64(n) {
		return max(1, int(quota))
	}
	return n
}

// cores is how much processor time a second the control groups of this process
// allow, in seconds; infinite where nothing bounds it.
func cores(f files) float64 {
	least := math.Inf(1)
	for _, g := range groups(f, "cpu") {
		for dir := g.dir; ; dir = path.Dir(dir) {
			if q, ok := quota(f, path.Join(g.mount, dir), g.v1); ok && q < least {
				least = q
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return least
}

// quota is what the control group in dir allows.
func quota(f files, dir string, v1 bool) (cores float64, ok bool) {
	if v1 {
		q, ok1 := number(f, path.Join(dir, "cpu.cfs_quota_us"))
		period, ok2 := number(f, path.Join(dir, "cpu.cfs_period_us"))
		return float64(q) / float64(max(period, 1)), ok1 && ok2 && q > 0 && period > 0
	}
	text, _ := f(path.Join(dir, "cpu.max"))
	w := strings.Fields(text)
	if len(w) != 2 {
		return 0, false
	}
	q, err1 := strconv.ParseInt(w[0], 10, 64) // "max" is no number
	period, err2 := strconv.ParseInt(w[1], 10, 64)
	return float64(q) / float64(max(period, 1)), err1 == nil && err2 == nil && q > 0 && period > 0
}

// leastHeap is what Go's heap is left in any case.
const leastHeap = 64 << 20

// BoundHeap has Go's collector keep its heap within what a container's memory leaves
// beside so many bytes that lie outside the heap, as tensors and mapped weights do:
// the collector does not see those. Outside of containers, and where GOMEMLIMIT says
// otherwise, it changes nothing.
func BoundHeap(beside int64) {
	if n, ok := heap(beside, os.Getenv("GOMEMLIMIT") != "", read); ok {
		debug.SetMemoryLimit(n)
	}
}

func heap(beside int64, chosen bool, f files) (int64, bool) {
	l, ok := memory(f)
	if !ok || !l.container || chosen {
		return 0, false
	}
	return max(l.Bytes-l.Bytes/10-max(beside, 0), leastHeap), true
}
