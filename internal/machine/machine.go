// Package machine says what the machine, or the container, that a process runs
// in gives it: how much memory, and whether the kernel has killed for the want
// of it.
package machine

import (
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
)

// files reads the kernel's files; tests have their own.
type files func(path string) (string, bool)

// Limit is an amount of memory that a process cannot go beyond.
type Limit struct {
	Bytes     int64
	Of        string // what sets it, in words
	container bool   // a control group does
}

func (l Limit) String() string { return fmt.Sprintf("%s has %s of memory", l.Of, Bytes(l.Bytes)) }

// Memory is the least of the machine's memory, with its swap, and the limits of
// the control groups that this process is in; ok is false where the kernel does
// not say.
func Memory() (l Limit, ok bool) { return memory(read) }

// Kills is how often the kernel has killed in this process's control group
// because it was out of memory; ok is false where that is not counted.
func Kills() (n int64, ok bool) { return kills(read) }

// OpenFiles is how many files, connections among them, this process may have
// open; ok is false where the kernel does not say.
func OpenFiles() (n int, ok bool) { return openFiles(read) }

func openFiles(f files) (n int, ok bool) {
	text, found := f("/proc/self/limits")
	if !found {
		return 0, false
	}
	for line := range strings.Lines(text) {
		rest, is := strings.CutPrefix(line, "Max open files")
		if words := strings.Fields(rest); is && len(words) > 0 {
			n, err := strconv.Atoi(words[0])
			return n, err == nil // else it is unlimited
		}
	}
	return 0, false
}

// Bytes is a size in words.
func Bytes(n int64) string {
	x, unit := float64(n), 0
	for ; x >= 1000 && unit < 6; unit++ {
		x /= 1000
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.3g %cB", x, "kMGTPE"[unit-1])
}

func memory(f files) (l Limit, ok bool) {
	l = Limit{Bytes: math.MaxInt64}
	swapTotal := int64(0)
	if text, found := f("/proc/meminfo"); found {
		total, ok1 := field(text, "MemTotal:")
		swap, _ := field(text, "SwapTotal:")
		swapTotal = swap << 10
		if ok1 {
			l, ok = Limit{Bytes: total<<10 + swapTotal, Of: "this machine"}, true
		}
	}
	for _, g := range groups(f, "memory") {
		limit, swap := "memory.max", "memory.swap.max"
		if g.v1 {
			limit, swap = "memory.limit_in_bytes", ""
		}
		for dir := g.dir; ; dir = path.Dir(dir) {
			n, found := number(f, path.Join(g.mount, dir, limit))
			if found && swap != "" {
				if s, limited := number(f, path.Join(g.mount, dir, swap)); limited {
					n += min(s, swapTotal)
				} else if _, there := f(path.Join(g.mount, dir, swap)); there { // as much as there is
					n += swapTotal
				}
			}
			if found && n < l.Bytes {
				l, ok = Limit{n, "this control group (container)", true}, true
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return l, ok
}

func kills(f files) (n int64, ok bool) {
	for _, g := range groups(f, "memory") {
		name := "memory.events"
		if g.v1 {
			name = "memory.oom_control"
		}
		for dir := g.dir; ; dir = path.Dir(dir) { // inside a container its own group is the root of what it sees
			if text, found := f(path.Join(g.mount, dir, name)); found {
				if k, found := field(text, "oom_kill"); found {
					return k, true
				}
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return 0, false
}

// group is where a control group of this process has its files.
type group struct {
	mount, dir string
	v1         bool
}

// groups are the control groups of this process in which a controller may be.
func groups(f files, controller string) (l []group) {
	text, _ := f("/proc/self/cgroup")
	for _, line := range strings.Split(text, "\n") {
		part := strings.SplitN(line, ":", 3)
		if len(part) < 3 {
			continue
		}
		switch {
		case part[0] == "0" && part[1] == "":
			l = append(l, group{"/sys/fs/cgroup", part[2], false})
		case strings.Contains(","+part[1]+",", ","+controller+","):
			l = append(l, group{"/sys/fs/cgroup/" + controller, part[2], true})
		}
	}
	return l
}

// field is the number behind a word at the beginning of a line.
func field(text, word string) (int64, bool) {
	for _, line := range strings.Split(text, "\n") {
		if w := strings.Fields(line); len(w) > 1 && w[0] == word {
			n, err := strconv.ParseInt(w[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// number is what a file holds; "max" is no number.
func number(f files, path string) (int64, bool) {
	text, ok := f(path)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n, err == nil
}
