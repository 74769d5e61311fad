// Package programtest gives tests both commands without linking them: a test's own binary,
// which has package cli in it, is either under its name. Linking both takes some seconds
// of a core. What cmd/ builds is run by the test of tools/release and by .ci/run.
package programtest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/vlaring/vlaring/internal/cli"
	"github.com/vlaring/vlaring/internal/process"
)

// Main is for TestMain. Under the name of a command this process does what that command's
// main does; else it runs the tests. It does not return.
func Main(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "coordinator":
		process.RelaxTimers()
		os.Exit(cli.Main(context.Background(), cli.NewCoordinator(), os.Args[1:], os.Stdout, os.Stderr))
	case "worker":
		process.RelaxTimers()
		os.Exit(cli.Main(context.Background(), cli.NewWorker(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// Into puts both commands into a folder, as links where that is on the test binary's disk.
func Into(t testing.TB, dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"coordinator", "worker"} {
		to := filepath.Join(dir, name)
		if os.Link(self, to) == nil {
			continue
		}
		b, err := os.ReadFile(self)
		if err == nil {
			err = os.WriteFile(to, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
