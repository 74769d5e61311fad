package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commandLine is the command c as it was given, to be typed again in the same
// directory: quoted for a shell, with all its flags but those of except.
func commandLine(c *cobra.Command, args []string, except ...string) string {
	words := strings.Fields(c.CommandPath())
	for _, a := range args {
		words = append(words, shellWord(a))
	}
	skip := map[string]bool{}
	for _, name := range except {
		skip[name] = true
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		if skip[f.Name] {
			return
		}
		switch v := f.Value.(type) {
		case pflag.SliceValue:
			for _, s := range v.GetSlice() {
				words = append(words, "--"+f.Name, shellWord(s))
			}
		default:
			if f.Value.Type() == "bool" {
				if word := "--" + f.Name; v.String() == "true" {
					words = append(words, word)
				} else {
					words = append(words, word+"=false")
				}
				return
			}
			words = append(words, "--"+f.Name, shellWord(v.String()))
		}
	})
	return strings.Join(words, " ")
}

// acceptFlag is what a command has to go on with changed data. An error of a
// sample that has to be repaired or left out first names it.
const acceptFlag = "--accept-data-change"

// resumeCommand is what continues this run.
func resumeCommand(c *cobra.Command, args []string, runDir string) string {
	s := commandLine(c, args, "resume", "run-dir", "accept-data-change")
	head := strings.Join(append(strings.Fields(c.CommandPath()), shellWord(args[0])), " ")
	return head + " --run-dir " + shellWord(runDir) + strings.TrimPrefix(s, head) + " --resume"
}

// shellWord quotes s for a POSIX shell where it must be.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=@%+,", r) || r > 0x7f && !strings.ContainsRune("\u0085\u00a0\u2028\u2029", r)
	}
	if s == "" || strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) >= 0 {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// checkCommand is what checks all of the data of the job at path.
func checkCommand(path string, set []string) string {
	s := "coordinator data check " + shellWord(path)
	for _, kv := range set {
		s += " --set " + shellWord(kv)
	}
	return s
}
