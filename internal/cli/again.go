package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlaring/vlaring/internal/plain"
)

// commandLine is the command c as it was given, to be typed again in the same
// directory: quoted for a shell, with all its flags but those of except.
func commandLine(c *cobra.Command, args []string, except ...string) string {
	words := strings.Fields(c.CommandPath())
	for _, a := range args {
		words = append(words, plain.ShellWord(a))
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
				words = append(words, "--"+f.Name, plain.ShellWord(s))
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
			words = append(words, "--"+f.Name, plain.ShellWord(v.String()))
		}
	})
	return strings.Join(words, " ")
}

// resumeCommand is what continues this run.
func resumeCommand(c *cobra.Command, args []string, runDir string) string {
	s := commandLine(c, args, "resume", "run-dir", "accept-data-change")
	head := strings.Join(append(strings.Fields(c.CommandPath()), plain.ShellWord(args[0])), " ")
	return head + " --run-dir " + plain.ShellWord(runDir) + strings.TrimPrefix(s, head) + " --resume"
}

// checkCommand is what checks all of the data of the job at path.
func checkCommand(path string, set []string) string {
	s := "coordinator data check " + plain.ShellWord(path)
	for _, kv := range set {
		s += " --set " + plain.ShellWord(kv)
	}
	return s
}
