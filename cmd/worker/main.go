// Command worker: see internal/cli.
package main

import (
	"context"
	"os"

	"github.com/vlaring/vlaring/internal/cli"
	"github.com/vlaring/vlaring/internal/process"
)

func main() {
	process.RelaxTimers()
	os.Exit(cli.Main(context.Background(), cli.NewWorker(), os.Args[1:], os.Stdout, os.Stderr))
}
