package kernel

import (
	"fmt"
	"os"
	"strings"
)

// Level is an instruction set that the kernels are written for. Every level computes the same bits.
type Level int

// The levels, slowest first.
const (
	Generic Level = iota // plain Go
	NEON                 // arm64 Advanced SIMD
	AVX2                 // amd64 AVX2 with FMA
	AVX512               // amd64 AVX-512 F, VL, BW, DQ
	AMX                  // AVX-512, and tiles for products of bfloat16
)

// EnvCPU names the environment variable that forces a level: generic, neon, avx2, avx512 or amx. Empty or auto means the best.
const EnvCPU = "VLARING_CPU"

// String returns the name that EnvCPU and Select understand.
func (l Level) String() string {
	switch l {
	case Generic:
		return "generic"
	case NEON:
		return "neon"
	case AVX2:
		return "avx2"
	case AVX512:
		return "avx512"
	case AMX:
		return "amx"
	}
	return fmt.Sprintf("Level(%d)", int(l))
}

// LevelError says that a level was asked for that does not exist or that this CPU or build does not have.
type LevelError struct {
	Name      string  // what was asked for
	Known     bool    // a level of this name exists, but not here
	Available []Level // what can be asked for here
}

func (e *LevelError) Error() string {
	names := make([]string, len(e.Available))
	for i, l := range e.Available {
		names[i] = l.String()
	}
	what := "is not a CPU level"
	if e.Known {
		what = "is a CPU level that this CPU or build does not have"
	}
	return fmt.Sprintf("%s: %q %s; it has: %s (or auto for the best of them)", EnvCPU, e.Name, what, strings.Join(names, ", "))
}

// The one package-level state: which code the kernels jump to. It is written by init and Select alone.
var (
	active Level
	envErr error
)

func init() { envErr = Select(os.Getenv(EnvCPU)) }

// Err returns the error of the level that the environment named when the program started, nil if there was none. The kernels
// then run at the best level; commands call Err first and refuse to start.
func Err() error { return envErr }

// Active returns the level in use.
func Active() Level { return active }

// Supported returns the levels that this CPU and build have, slowest first; Generic is always among them.
func Supported() []Level { return append([]Level{Generic}, archLevels()...) }

// Select makes the kernels use the named level; "" and "auto" choose the best one. On a *LevelError the best level is in use.
// It must not be called while kernels run.
func Select(name string) error {
	have := Supported()
	best := have[len(have)-1]
	want := strings.ToLower(strings.TrimSpace(name))
	if want == "" || want == "auto" {
		use(best)
		return nil
	}
	for _, l := range have {
		if l.String() == want {
			use(l)
			return nil
		}
	}
	use(best)
	known := false
	for l := Generic; l <= AMX; l++ {
		known = known || l.String() == want
	}
	return &LevelError{Name: name, Known: known, Available: have}
}

func use(l Level) {
	active = l
	archUse(l)
}
