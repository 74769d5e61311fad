package weights

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// remedy is a rule for init.map that would make more of a file's names fit.
type remedy struct {
	rule job.Rename
	what string // it is so with the file's names
	fits int    // names that find a place with it
	of   int    // parameters of the model
}

// String says what is wrong and what to type.
func (r remedy) String() string {
	return fmt.Sprintf("%s init.map {%q: %q}, which fits %d of the model's %d parameters", r.what, r.rule.From, r.rule.To, r.fits, r.of)
}

// wrappers are names that PyTorch's wrappers put among those of a model:
// DistributedDataParallel, torch.compile, FSDP and activation checkpointing.
// They stand at the front, or in the middle where a part was wrapped.
var wrappers = [...]string{"module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."}

// looked is how many of a file's names are looked at, and longest how many bytes
// a name has that is: a file may hold anything.
const (
	looked  = 10_000
	longest = 400
)

// remedyFor looks for one rule, behind those of init.map, that gives many more
// names a place: a prefix to strip, one to put in front, or a wrapper's name to
// take out. ok is false where there is none.
func remedyFor(ps *tensor.Params, rules job.Renames, names []string) (best remedy, ok bool) {
	var short []string
	for _, name := range names[:min(len(names), looked)] {
		if len(name) <= longest {
			short = append(short, name)
		}
	}
	names = short
	fits := func(r ...job.Rename) (n int) {
		all := append(append(job.Renames{}, rules...), r...)
		for _, name := range names {
			if to, dropped := rename(all, name); !dropped && ps.ByName(to) != nil {
				n++
			}
		}
		return n
	}
	strip, add := map[string]int{}, map[string]int{}
	before := map[string][]string{} // the end of a parameter's name → what stands before it
	for _, p := range ps.List() {
		for i := range p.Name {
			if p.Name[i] == '.' {
				before[p.Name[i+1:]] = append(before[p.Name[i+1:]], p.Name[:i+1])
			}
		}
	}
	for _, name := range names {
		for i := range name {
			if name[i] == '.' && ps.ByName(name[i+1:]) != nil {
				strip[name[:i+1]]++
			}
		}
		for _, prefix := range before[name] {
			add[prefix]++
		}
	}
	var candidates []remedy
	if prefix, n := most(strip); n > 0 {
		begin := 0
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				begin++
			}
		}
		candidates = append(candidates, remedy{rule: job.Rename{From: prefix + "*", To: "*"},
			what: fmt.Sprintf("%s begin with %q: strip it with", ofNames(begin, len(names)), prefix)})
	}
	if prefix, n := most(add); n > 0 {
		candidates = append(candidates, remedy{rule: job.Rename{From: "*", To: prefix + "*"},
			what: fmt.Sprintf("the model's names begin with %q, and those of the file do not: put it in front with", prefix)})
	}
	for _, w := range wrappers {
		has := 0
		for _, name := range names {
			if strings.HasPrefix(name, w) || strings.Contains(name, "."+w) {
				has++
			}
		}
		if has > 0 {
			candidates = append(candidates, remedy{rule: job.Rename{From: "*" + w + "*", To: "**"},
				what: fmt.Sprintf("%s have %q in them: take it out with", ofNames(has, len(names)), w)})
		}
	}
	best.fits = fits()
	for _, c := range candidates {
		if c.fits = fits(c.rule); c.fits > best.fits {
			best, ok = c, true
		}
	}
	best.of = len(ps.List())
	return best, ok && (2*best.fits >= len(names) || 2*best.fits >= best.of)
}

func ofNames(n, all int) string {
	if n == all {
		return fmt.Sprintf("all %d names", all)
	}
	return fmt.Sprintf("%d of its %d names", n, all)
}

// most is the key with the largest count, of equals the shortest, then the first.
func most(count map[string]int) (key string, n int) {
	for k, c := range count {
		if c > n || c == n && (len(k) < len(key) || len(k) == len(key) && k < key) {
			key, n = k, c
		}
	}
	return key, n
}

// shardAlone says what to do where a file is one part of a sharded one.
func shardAlone(path string) (advice string, ok bool) {
	stem, part, of, ok := safetensors.Shard(path)
	if !ok {
		return "", false
	}
	return fmt.Sprintf("this is part %s of %s of a sharded file: give init its index, %s, or its folder",
		part, of, filepath.Join(filepath.Dir(path), stem+safetensors.IndexSuffix)), true
}

// few lists at most n names and says how many more there are.
func few(names []string, n int) string {
	var out []string
	for _, x := range names[:min(len(names), n)] {
		out = append(out, clip(x))
	}
	if more := len(names) - n; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(out, ", "), more)
	}
	return strings.Join(out, ", ")
}

// clip shortens a name that would fill lines of a message, and quotes one that
// would break them.
func clip(name string) string {
	const most = 120
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		name = strconv.Quote(name)
	}
	if r := []rune(name); len(r) > most {
		return string(r[:most/2]) + "…" + string(r[len(r)-most/2:])
	}
	return name
}
