package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vlaring/vlaring/internal/machine"
)

// prSetChildSubreaper has Linux give this process the orphans of its descendants.
const prSetChildSubreaper = 36

// adoptOrphans has the processes that descendants leave behind stay descendants:
// workers outlive their coordinator, and whoever ends them must find them.
func adoptOrphans() error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("adopting orphans: %w", errno)
	}
	return nil
}

// descendants are the processes below this one, parents before children.
func descendants() []int {
	below := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path) // PID (COMMAND) STATE PARENT …
		i := bytes.LastIndexByte(b, ')')
		if err != nil || i < 0 {
			continue // it has ended meanwhile
		}
		fields := strings.Fields(string(b[i+1:]))
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			below[parent] = append(below[parent], pid)
		}
	}
	all := below[os.Getpid()]
	for i := 0; i < len(all); i++ {
		all = append(all, below[all[i]]...)
	}
	return all
}

// killDescendants ends all processes below this one but one, and takes their
// exits. None of them may be waited for by anybody else.
func killDescendants(but int) {
	for {
		all := slices.DeleteFunc(descendants(), func(pid int) bool { return pid == but })
		if len(all) == 0 {
			return
		}
		for _, pid := range all {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		syscall.Wait4(-1, nil, 0, nil) // one of them at least is a child
	}
}

// killMarked ends all processes that have an environment variable of this value,
// frozen ones too.
func killMarked(name, value string) {
	for quiet := 0; quiet < 3; { // one that is just being started is seen the next time
		found := false
		files, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(append([]byte{0}, b...), []byte("\x00"+name+"="+value+"\x00")) {
				continue
			}
			if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil && pid != os.Getpid() && machine.Running(pid) {
				found = true
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if quiet++; found {
			quiet = 0
		}
		time.Sleep(20 * time.Millisecond)
	}
}
