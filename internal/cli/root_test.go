package cli

import (
	"bytes"
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlaring/vlaring/internal/usage"
)

// Both programs say their version however they are asked, and help about nothing that there
// is ends as any wrong command does.
func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of   func() *cobra.Command
		args string
		code int
		want string
	}{
		{NewCoordinator, "version", exitDone, "coordinator version " + release() + "\n"},
		{NewCoordinator, "--version", exitDone, "coordinator version " + release() + "\n"},
		{NewWorker, "version", exitDone, "worker version " + release() + "\n"},
		{NewWorker, "--version", exitDone, "worker version " + release() + "\n"},
		{NewCoordinator, "version now", exitUsage, "takes no arguments"},
		{NewWorker, "now", exitUsage, "worker takes no arguments"},
		{NewCoordinator, "help trian", exitUsage, "did you mean train?"},
		{NewCoordinator, "help checkpoint lst", exitUsage, "want ls, show"},
		{NewCoordinator, "help checkpoint ls", exitDone, "List a run's checkpoints"},
		{NewCoordinator, "help", exitDone, "Available Commands"},
		{NewCoordinator, "train testdata/small.yaml --workers -5", exitUsage, "--workers -5: want 0 to 4096"},
	} {
		var out bytes.Buffer
		code := Main(context.Background(), c.of(), strings.Fields(c.args), &out, &out)
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: exit code %d, want %d: %s", c.args, code, c.code, out.String())
		}
	}
}

// What help says of a flag's default it says once, and every command says what it does.
func TestHelpSaysOnce(t *testing.T) {
	t.Parallel()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" && !c.Hidden {
			t.Errorf("%s does not say what it does", c.CommandPath())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if n := strings.Count(line(c, f.Name), "(default"); n > 1 {
				t.Errorf("%s --%s tells its default %d times: %s", c.CommandPath(), f.Name, n, line(c, f.Name))
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(NewCoordinator())
	walk(NewWorker())
}

// line is what help says of a flag.
func line(c *cobra.Command, name string) string {
	one := pflag.NewFlagSet("", pflag.ContinueOnError)
	one.AddFlag(c.Flags().Lookup(name))
	return one.FlagUsages()
}

// full is a file on a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What could not be written all is no success, whichever command wrote it.
func TestOutputThatIsNotWritten(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--help", "version", "presets", "show masks", "data info ../../pkg/data/testdata/lerobot/v3", "data stats ../../pkg/data/testdata/lerobot/v3", "runs ls ."} {
		var said bytes.Buffer
		if code := Main(context.Background(), NewCoordinator(), strings.Fields(args), full{}, &said); code != exitFailed || !strings.Contains(said.String(), "no space left") {
			t.Errorf("%s: exit code %d, %q", args, code, said.String())
		}
	}
}

// Values that cannot be are refused as they are read, by every command that has the flag, in
// the words of who types them.
func TestFlagValues(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"audit r --step -1":                        `--step "-1": want a whole number from 0`,
		"status r --timeout 5":                     `--timeout "5": want a duration such as 500ms, 10s or 2h`,
		"rollout --episodes many":                  `--episodes "many": want a whole number`,
		"bench attention --tokens 1,x":             `--tokens "1,x": want whole numbers, separated by commas`,
		"keys j worker:w --for 0h":                 "--for 0: want how long",
		"data import x --size -1":                  "--size -1: want 1 to",
		"train testdata/small.yaml --threads -1":   "--threads -1: want 0 to 1024",
		"train testdata/small.yaml --threads 1025": "--threads 1025: want 0 to 1024",
	} {
		var said bytes.Buffer
		if code := Main(context.Background(), NewCoordinator(), strings.Fields(args), &said, &said); code != exitUsage || !strings.Contains(said.String(), want) {
			t.Errorf("%s: exit code %d, %s", args, code, said.String())
		}
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if f := c.Flags().Lookup("threads"); f != nil {
			if _, ok := f.Value.(usage.Threads); !ok || f.Value.Set("99999999") == nil || f.Value.Set("-1") == nil {
				t.Errorf("%s takes any number of threads", c.CommandPath())
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(NewCoordinator())
	walk(NewWorker())
}
