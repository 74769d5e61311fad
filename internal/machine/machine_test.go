package machine

import (
	"runtime"
	"strings"
	"testing"
)

// kernel is what the kernel's files hold.
func kernel(m map[string]string) files {
	return func(path string) (string, bool) { s, ok := m[path]; return s, ok }
}

const meminfo = "MemTotal:       1000 kB\nMemFree: 1 kB\nSwapTotal:  24 kB\n"

func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
		of    string
	}{
		"no limit":           {map[string]string{"/proc/meminfo": meminfo, "/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.max": "max\n"}, 1024 << 10, "machine"},
		"v2":                 {map[string]string{"/proc/meminfo": meminfo, "/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "max\n", "/sys/fs/cgroup/a/memory.max": "5000\n", "/sys/fs/cgroup/a/memory.swap.max": "0\n"}, 5000, "container"},
		"v2 with swap":       {map[string]string{"/proc/meminfo": meminfo, "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "5000\n", "/sys/fs/cgroup/memory.swap.max": "70\n"}, 5070, "container"},
		"v2, swap unlimited": {map[string]string{"/proc/meminfo": meminfo, "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "5000\n", "/sys/fs/cgroup/memory.swap.max": "max\n"}, 5000 + 24<<10, "container"},
		"v1":                 {map[string]string{"/proc/meminfo": meminfo, "/proc/self/cgroup": "4:memory:/x\n0::/\n", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "6000\n"}, 6000, "container"},
		"v1, none":           {map[string]string{"/proc/meminfo": meminfo, "/proc/self/cgroup": "4:cpu,memory:/x\n", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, 1024 << 10, "machine"},
	} {
		l, ok := memory(kernel(c.files))
		if !ok || l.Bytes != c.want || !strings.Contains(l.Of, c.of) {
			t.Errorf("%s: %v, %v; want %d of the %s", name, l, ok, c.want, c.of)
		}
	}
	if l, ok := memory(kernel(nil)); ok {
		t.Errorf("without files: %v", l)
	}
	if l, ok := Memory(); runtime.GOOS == "linux" && (!ok || l.Bytes < 1<<20) {
		t.Errorf("here: %v, %v", l, ok)
	}
}

func TestKills(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
		ok    bool
	}{
		"v2":           {map[string]string{"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.events": "low 0\nmax 7\noom 2\noom_kill 3\n"}, 3, true},
		"in container": {map[string]string{"/proc/self/cgroup": "0::/../x\n", "/sys/fs/cgroup/memory.events": "oom_kill 4\n"}, 4, true},
		"v1":           {map[string]string{"/proc/self/cgroup": "4:memory:/x\n0::/\n", "/sys/fs/cgroup/memory/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"}, 5, true},
		"unknown":      {map[string]string{"/proc/self/cgroup": "0::/\n"}, 0, false},
	} {
		if n, ok := kills(kernel(c.files)); n != c.want || ok != c.ok {
			t.Errorf("%s: %d, %v; want %d, %v", name, n, ok, c.want, c.ok)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{7: "7 bytes", 1234: "1.23 kB", 206e9: "206 GB", 1 << 60: "1.15 EB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestOpenFiles(t *testing.T) {
	const head = "Limit                     Soft Limit           Hard Limit           Units     \nMax processes             11                   12                   processes \n"
	for text, want := range map[string]int{
		head + "Max open files            1024                 4096                 files     \n": 1024,
		head + "Max open files            unlimited            unlimited            files     \n": 0,
		head: 0,
	} {
		n, ok := openFiles(func(path string) (string, bool) { return text, path == "/proc/self/limits" })
		if n != want || ok != (want > 0) {
			t.Errorf("%q: %d, %v", text, n, ok)
		}
	}
}

// Whole cores of what is allowed compute, one at least, in either version of control
// groups, and whatever the groups above allow.
func TestThreads(t *testing.T) {
	v2 := func(own, above string) map[string]string {
		return map[string]string{"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": own, "/sys/fs/cgroup/a/cpu.max": above}
	}
	v1 := func(quota string) map[string]string {
		return map[string]string{"/proc/self/cgroup": "3:cpu,cpuacct:/x\n0::/\n", "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": quota, "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n"}
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  int
	}{
		"no files":           {nil, 8},
		"no bound":           {v2("max 100000\n", "max 100000\n"), 8},
		"half a core":        {v2("50000 100000\n", ""), 1},
		"one and a half":     {v2("150000 100000\n", ""), 1},
		"two":                {v2("100000 50000\n", ""), 2},
		"two and a bit":      {v2("210000 100000\n", ""), 2},
		"bound from above":   {v2("max 100000\n", "300000 100000\n"), 3},
		"more than there is": {v2("9900000 100000\n", ""), 8},
		"in a namespace":     {map[string]string{"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4},
		"damaged":            {v2("50000\n", "x y\n"), 8},
		"no period":          {v2("50000 0\n", ""), 8},
		"v1":                 {v1("250000\n"), 2},
		"v1, half":           {v1("50000\n"), 1},
		"v1, no bound":       {v1("-1\n"), 8},
	} {
		if n := threads(8, false, kernel(c.files)); n != c.want {
			t.Errorf("%s: %d threads, want %d", name, n, c.want)
		}
		if n := whole(8, kernel(c.files)); n != c.want {
			t.Errorf("%s: %d cores, want %d", name, n, c.want)
		}
	}
	if n := threads(8, true, kernel(v2("50000 100000\n", ""))); n != 8 {
		t.Errorf("where GOMAXPROCS says 8: %d", n)
	}
	if n := Threads(); n < 1 || n > runtime.GOMAXPROCS(0) {
		t.Errorf("here: %d of %d", n, runtime.GOMAXPROCS(0))
	}
	if n := Cores(); n < 1 || n > runtime.NumCPU() {
		t.Errorf("here: %d cores of %d", n, runtime.NumCPU())
	}
}

// The collector is told what a container's memory leaves beside what it does not see.
func TestHeap(t *testing.T) {
	in := map[string]string{"/proc/meminfo": "MemTotal: 8388608 kB\n", "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "1000000000\n", "/sys/fs/cgroup/memory.swap.max": "0\n"}
	for name, c := range map[string]struct {
		files  map[string]string
		beside int64
		chosen bool
		want   int64
		ok     bool
	}{
		"container":             {in, 0, false, 900000000, true},
		"with tensors":          {in, 300000000, false, 600000000, true},
		"with more than it has": {in, 5000000000, false, leastHeap, true},
		"GOMEMLIMIT":            {in, 0, true, 0, false},
		"machine":               {map[string]string{"/proc/meminfo": meminfo}, 0, false, 0, false},
	} {
		if n, ok := heap(c.beside, c.chosen, kernel(c.files)); n != c.want || ok != c.ok {
			t.Errorf("%s: %d, %v; want %d, %v", name, n, ok, c.want, c.ok)
		}
	}
}
