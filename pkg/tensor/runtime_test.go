package tensor

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vlaring/vlaring/internal/kernel"
)

// counter is a task that knows what was done.
type counter struct {
	done   []atomic.Int32
	panics int // tiles below it panic
}

func (c *counter) Tile(i int, _ *kernel.Workspace) {
	runtime.Gosched() // let the threads meet in every order
	c.done[i].Add(1)
	if i < c.panics {
		panic(i)
	}
}

// Run returns when every tile was done once, however the threads meet: with helpers that spin, that park at once, and in between.
func TestRunDoesEveryTile(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 5} {
		for _, spins := range []int{0, 1, 50} {
			r := newRuntime(threads, spins)
			for n := range 2000 {
				c := &counter{done: make([]atomic.Int32, n%(2*threads+1))}
				r.Run(c, len(c.done))
				for i := range c.done {
					if k := c.done[i].Load(); k != 1 {
						t.Fatalf("%d threads, %d spins, run %d: tile %d of %d was done %d times", threads, spins, n, i, len(c.done), k)
					}
				}
			}
			r.Close()
			r.Close() // a second one does nothing
		}
	}
}

// A panic in any thread arrives at the caller once, and the runtime goes on.
func TestRunPanics(t *testing.T) {
	for _, threads := range []int{1, 2, 5} {
		r := newRuntime(threads, 10)
		for _, panics := range []int{0, 1, 5, 0, 2, 0} {
			func() {
				defer func() {
					if p := recover(); (p != nil) != (panics > 0) {
						t.Errorf("%d threads, %d tiles that panic: recovered %v", threads, panics, p)
					}
				}()
				r.Run(&counter{done: make([]atomic.Int32, 6), panics: panics}, 6)
			}()
		}
		r.Close()
	}
}

func TestCutCovers(t *testing.T) {
	for total := range 100 {
		for n := 1; n < 9; n++ {
			for _, unit := range []int{1, 12, 16, 32} {
				at := 0
				for i := range n {
					lo, hi := cut(i, n, total, unit)
					if lo != at || hi < lo || lo%unit != 0 && lo != total {
						t.Fatalf("part %d of %d of %d in units of %d is [%d, %d), after %d", i, n, total, unit, lo, hi, at)
					}
					at = hi
				}
				if at != total {
					t.Fatalf("%d parts of %d in units of %d end at %d", n, total, unit, at)
				}
			}
		}
	}
}

// A forced level that the CPU lacks is an error which names the levels it has, and the best of them is in use.
func TestForcedLevel(t *testing.T) {
	if out := os.Getenv("VLARING_TEST_LEVEL"); out != "" { // the child
		if err := CPUError(); err != nil {
			os.Stdout.WriteString("ERROR " + err.Error() + "\n")
		}
		os.Stdout.WriteString("LEVEL " + CPULevel() + "\n")
		return
	}
	if AMX != kernel.AMX.String() {
		t.Errorf("AMX is %q, and the kernels call it %q", AMX, kernel.AMX)
	}
	lacking := "neon"
	if runtime.GOARCH == "arm64" {
		lacking = "avx512"
	}
	all := CPULevels()
	for _, c := range []struct{ env, level, err string }{
		{"", all[len(all)-1], ""},
		{"auto", all[len(all)-1], ""},
		{"generic", "generic", ""},
		{" " + strings.ToUpper(all[len(all)-1]), all[len(all)-1], ""},
		{lacking, all[len(all)-1], `VLARING_CPU: "` + lacking + `" is a CPU level that this CPU or build does not have; it has: generic`},
		{"sse9", all[len(all)-1], `VLARING_CPU: "sse9" is not a CPU level; it has: generic`},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestForcedLevel$")
		cmd.Env = append(os.Environ(), "VLARING_TEST_LEVEL=1", kernel.EnvCPU+"="+c.env)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", c.env, err, out)
		}
		if got := string(out); !strings.Contains(got, "LEVEL "+c.level+"\n") || strings.Contains(got, "ERROR") != (c.err != "") || !strings.Contains(got, c.err) {
			t.Errorf("%s=%q printed\n%swant level %s, error %q", kernel.EnvCPU, c.env, got, c.level, c.err)
		}
	}
	before := CPULevel()
	defer SetCPU(before)
	var le *kernel.LevelError
	if err := SetCPU(lacking); !errors.As(err, &le) || !le.Known || CPULevel() != all[len(all)-1] {
		t.Errorf("SetCPU(%q) = %v at level %s", lacking, err, CPULevel())
	}
}
