package cli

import (
	"os/exec"
	"strings"
	"testing"
)

// The printed command, read by a shell, has the very words that were given.
func TestCommandLineIsTheOneThatWasGiven(t *testing.T) {
	given := []string{"my job's.yaml", "--run-dir", "my run", "--set", "train.steps=300000", "--set", "init={path: a b}", "--workers", "0", "--listen", "127.0.0.1:0",
		"--token-file", "$HOME/t`ok\"en", "--threads", "1", "--handover", "--verbose", "--log-format", ""}
	c := newTrain()
	root := NewCoordinator()
	root.AddCommand(c)
	if err := c.ParseFlags(given); err != nil {
		t.Fatal(err)
	}
	line := resumeCommand(c, c.Flags().Args(), "my run")
	out, err := exec.Command("sh", "-c", "printf '%s\\n' "+line).Output()
	if err != nil {
		t.Fatalf("a shell does not read %s: %v", line, err)
	}
	words := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if strings.Join(words[:3], "|") != "coordinator|train|my job's.yaml" || words[len(words)-1] != "--resume" {
		t.Errorf("the command is %q", words)
	}
	again := newTrain()
	if err := again.ParseFlags(words[3:]); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	for _, name := range []string{"run-dir", "set", "workers", "listen", "token-file", "threads", "handover", "verbose", "log-format"} {
		if got, want := again.Flag(name).Value.String(), c.Flag(name).Value.String(); got != want || !again.Flag(name).Changed {
			t.Errorf("--%s is %q again, want %q", name, got, want)
		}
	}
}
