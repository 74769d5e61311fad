package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Host says on what, and beside how much else, something was measured.
type Host struct {
	CPU   string     `json:"cpu"` // as the system names it
	Cores int        `json:"cores"`
	Go    string     `json:"go"`
	Load  [2]float64 `json:"load_average"` // of a minute, before and after; 0 where the system does not tell
}

// newHost notes the machine as it is before a measurement.
func newHost() Host {
	return Host{CPU: cpuName(), Cores: runtime.GOMAXPROCS(0), Go: runtime.Version(), Load: [2]float64{loadAverage()}}
}

// note notes the load after it.
func (h *Host) note() { h.Load[1] = loadAverage() }

func (h *Host) String() string {
	return fmt.Sprintf("%s, %d core(s), %s, load average %.1f before and %.1f after", h.CPU, h.Cores, h.Go, h.Load[0], h.Load[1])
}

// cpuName is the processor's model, or its architecture where the system does
// not tell.
func cpuName() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return runtime.GOARCH
}

func loadAverage() (load float64) {
	b, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		fmt.Sscan(string(b), &load)
	}
	return load
}
