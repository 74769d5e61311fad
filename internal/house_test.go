// Package internal holds the test of the house's one rule: imports point downward.
package internal

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/vlaring/vlaring/"

// may lists, for each package, the packages of this module that it may import.
// docs/design.md draws the same table.
var may = map[string][]string{
	"internal/atomicfile":  {},
	"internal/netaddr":     {},
	"internal/octets":      {},
	"internal/philox":      {},
	"internal/portable":    {},
	"internal/limits":      {},
	"internal/machine":     {},
	"internal/plain":       {},
	"internal/regular":     {},
	"internal/room":        {},
	"internal/s3url":       {},
	"internal/usage":       {"internal/netaddr"},
	"internal/access":      {"internal/atomicfile", "internal/plain", "internal/regular", "internal/usage", "pkg/transport"},
	"internal/sniff":       {"internal/octets"},
	"internal/safetensors": {"internal/octets", "internal/regular", "internal/sniff"},
	"internal/picture":     {},
	"internal/convert":     {"internal/atomicfile", "internal/regular", "internal/sniff", "internal/usage", "pkg/checkpoint", "internal/s3url", "pkg/objects"},
	"pkg/job":              {"internal/limits", "internal/regular", "internal/sniff", "internal/s3url"},
	"internal/kernel":      {"internal/philox"},
	"pkg/tensor":           {"internal/kernel", "internal/philox"},
	"pkg/models":           {"internal/limits", "internal/octets", "pkg/job", "pkg/tensor", "internal/philox", "internal/portable"},
	"pkg/tokenizer":        {"internal/limits", "internal/regular"},
	"pkg/data":             {"pkg/tokenizer", "internal/octets", "internal/portable", "internal/atomicfile", "internal/limits", "internal/plain", "internal/regular", "pkg/models", "pkg/job", "internal/philox", "internal/safetensors", "internal/sniff", "pkg/objects", "internal/s3url"},
	"pkg/allreduce":        {"internal/octets"},
	"pkg/allreduce/shm":    {"pkg/allreduce"},
	"pkg/allreduce/stream": {"pkg/allreduce"},
	"pkg/bulk":             {"internal/plain"},
	"pkg/cluster":          {"internal/limits", "internal/plain", "pkg/allreduce"},
	"pkg/checkpoint":       {"internal/octets", "internal/regular", "internal/atomicfile", "internal/safetensors", "internal/sniff", "internal/room"},
	"pkg/objects":          {"internal/atomicfile", "internal/plain", "internal/regular", "internal/room", "internal/s3url"},
	"pkg/features":         {"internal/octets", "internal/plain", "internal/room", "pkg/data", "pkg/models"},
	"pkg/pretrained":       {"internal/regular", "internal/safetensors", "pkg/models", "pkg/tensor", "pkg/weights"},
	"pkg/weights":          {"internal/safetensors", "pkg/tensor", "pkg/models", "pkg/checkpoint", "pkg/job"},
	"pkg/eval":             {"internal/plain", "pkg/job", "pkg/tensor", "pkg/models", "pkg/data"},
	"pkg/train":            {"internal/octets", "internal/machine", "internal/portable", "internal/safetensors", "pkg/allreduce", "pkg/allreduce/stream", "pkg/checkpoint", "pkg/cluster", "pkg/data", "pkg/job", "pkg/models", "pkg/pretrained", "pkg/tensor", "pkg/tokenizer", "pkg/weights"},
	"pkg/worker":           {"internal/limits", "internal/machine", "internal/safetensors", "pkg/allreduce", "pkg/allreduce/shm", "pkg/bulk", "pkg/checkpoint", "pkg/cluster", "pkg/data", "pkg/features", "pkg/job", "pkg/models", "pkg/tensor", "pkg/train"},
	"pkg/transport":        {"pkg/allreduce", "pkg/bulk", "pkg/cluster", "pkg/natsbus"},
	"pkg/natsbus":          {"internal/octets", "internal/netaddr", "pkg/bulk", "internal/limits", "internal/plain", "internal/regular", "pkg/allreduce", "pkg/cluster"},
	"pkg/trained":          {"internal/atomicfile", "internal/plain", "internal/regular", "internal/safetensors", "internal/usage", "pkg/checkpoint", "pkg/data", "pkg/eval", "pkg/features", "pkg/job", "pkg/models", "pkg/pretrained", "pkg/tensor", "pkg/tokenizer", "pkg/train", "pkg/weights", "internal/s3url", "pkg/checkpoint/bucket"},
	"pkg/serve":            {"internal/regular", "internal/usage", "pkg/trained"},
	"internal/film":        {"internal/atomicfile"},
	"internal/rollout":     {"internal/film", "internal/plain", "internal/usage", "pkg/data", "pkg/models", "pkg/trained"},
	"pkg/run":              {"internal/atomicfile", "internal/limits", "internal/machine", "internal/netaddr", "internal/plain", "internal/regular", "internal/rollout", "internal/safetensors", "internal/usage", "pkg/bulk", "pkg/checkpoint", "pkg/cluster", "pkg/data", "pkg/eval", "pkg/features", "pkg/job", "pkg/models", "pkg/pretrained", "pkg/transport", "pkg/tensor", "pkg/train", "pkg/trained", "pkg/weights", "pkg/worker", "internal/s3url", "pkg/objects", "pkg/checkpoint/bucket"},
	"internal/compare":     {"pkg/eval", "pkg/tensor", "pkg/models", "pkg/data", "pkg/allreduce", "pkg/train", "pkg/job", "internal/safetensors", "internal/picture"},
	"internal/attention":   {"internal/picture", "pkg/tensor", "pkg/models", "pkg/data"},
	"internal/bench":       {"internal/bench/measure", "internal/picture", "internal/plain", "internal/safetensors", "internal/usage", "pkg/data", "pkg/tensor", "pkg/models", "pkg/allreduce", "pkg/allreduce/shm", "pkg/allreduce/stream", "pkg/transport", "pkg/run", "pkg/train"},
	"internal/cli": { // a line each, because many change it
		"internal/access",
		"internal/attention",
		"internal/audit",
		"internal/bench",
		"internal/board",
		"internal/bench/measure",
		"internal/chaos",
		"internal/compare",
		"internal/convert",
		"internal/health",
		"internal/inspect",
		"internal/kubeflow",
		"internal/limits",
		"internal/machine",
		"internal/netaddr",
		"internal/page",
		"internal/plain",
		"internal/process",
		"internal/regular",
		"internal/rollout",
		"internal/runlist",
		"internal/safetensors",
		"internal/stored",
		"internal/usage",
		"internal/view",
		"pkg/checkpoint",
		"pkg/cluster",
		"pkg/data",
		"pkg/eval",
		"pkg/job",
		"pkg/models",
		"pkg/transport",
		"pkg/run",
		"pkg/serve",
		"pkg/tensor",
		"pkg/train",
		"pkg/trained",
		"pkg/worker",
	},
	"internal/tensorboard":   {"internal/atomicfile", "internal/octets", "internal/regular"},
	"pkg/checkpoint/bucket":  {"internal/s3url", "pkg/checkpoint", "pkg/objects"},
	"internal/stored":        {"internal/plain", "internal/s3url", "internal/safetensors", "internal/usage", "pkg/checkpoint", "pkg/checkpoint/bucket", "pkg/data", "pkg/run", "pkg/train", "pkg/trained"},
	"internal/runlist":       {"internal/picture", "internal/plain", "internal/regular", "internal/usage", "pkg/checkpoint", "pkg/job", "pkg/run"},
	"internal/audit":         {"internal/plain", "internal/regular", "internal/s3url", "internal/safetensors", "internal/usage", "pkg/allreduce", "pkg/checkpoint", "pkg/data", "pkg/job", "pkg/models", "pkg/run", "pkg/tensor", "pkg/train", "pkg/trained", "pkg/weights", "pkg/worker"},
	"internal/board":         {"internal/atomicfile", "internal/attention", "internal/regular", "internal/tensorboard", "internal/usage", "pkg/data", "pkg/run", "pkg/tensor", "pkg/trained"},
	"internal/page":          {"internal/attention", "internal/netaddr", "internal/plain", "internal/usage", "pkg/checkpoint", "pkg/data", "pkg/job", "pkg/models", "pkg/run", "pkg/tensor", "pkg/trained"},
	"internal/view":          {"internal/picture", "internal/plain", "internal/usage", "pkg/cluster", "pkg/data", "pkg/eval", "pkg/models", "pkg/run"},
	"internal/inspect":       {"internal/picture", "internal/plain", "internal/usage", "internal/view", "pkg/checkpoint", "pkg/data", "pkg/job", "pkg/models", "pkg/run", "pkg/train"},
	"internal/chaos":         {"internal/machine", "internal/netaddr", "internal/usage", "pkg/cluster", "pkg/job", "pkg/transport", "pkg/run"},
	"internal/bench/measure": {"internal/kernel", "internal/philox", "pkg/tensor"},

	"internal/process":  {},
	"internal/health":   {"internal/netaddr", "internal/regular", "internal/usage", "pkg/cluster", "pkg/run", "pkg/worker"},
	"internal/kubeflow": {"pkg/worker"},
	"tools/release":     {},
	"cmd/coordinator":   {"internal/cli", "internal/process"},
	"cmd/worker":        {"internal/cli", "internal/process"},
	"test/programtest":  {"internal/cli", "internal/process"},
	"internal":          {},
}

// owners lists libraries that only the named packages may import.
var owners = map[string][]string{
	"github.com/nats-io/":     {"pkg/natsbus"},
	"github.com/prometheus/":  {"internal/health"},
	"go.opentelemetry.io/":    {"internal/health"},
	"google.golang.org/":      {"internal/health"},
	"github.com/parquet-go/":  {"internal/convert", "pkg/data"},
	"github.com/coder/":       {"pkg/serve"},
	"github.com/minio/":       {"pkg/objects"},
	"gopkg.in/ini.v1":         {"pkg/objects"},
	"github.com/vmihailenco/": {"pkg/serve"},
	"github.com/spf13/":       {"internal/cli"},
	"go.uber.org/zap":         {"internal/health", "internal/view", "internal/cli", "pkg/run", "pkg/worker"},
	"gonum.org/v1/plot":       {"internal/picture"},
}

func TestImportsPointDownward(t *testing.T) {
	root := ".."
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (name == "testdata" || name[0] == '.' || name[0] == '_' || name == "runs") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := owner(filepath.ToSlash(dir))
		allowed, ok := may[pkg]
		if !ok {
			t.Errorf("%s: package %s stands in no table", path, dir)
			return nil
		}
		seen[pkg] = true
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			if in, ok := strings.CutPrefix(p, module); ok {
				if to := owner(in); to != pkg && !contains(allowed, to) {
					t.Errorf("%s imports %s, which is not below %s", path, in, pkg)
				}
			}
			for lib, who := range owners {
				if strings.HasPrefix(p, lib) && !contains(who, pkg) {
					t.Errorf("%s imports %s, which belongs to %v", path, p, who)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for p := range may {
		if !seen[p] && p != "internal" {
			missing = append(missing, p)
		}
	}
	sort.Strings(missing)
	if len(missing) > 0 {
		t.Errorf("in the table but not in the tree: %v", missing)
	}
}

// owner maps a sub-package to the entry of the table that it belongs to: the
// longest one that is it or a parent of it.
func owner(pkg string) string {
	for p := pkg; p != "."; p = filepath.ToSlash(filepath.Dir(p)) {
		if _, ok := may[p]; ok {
			return p
		}
	}
	return pkg
}

func contains(l []string, s string) bool {
	for _, x := range l {
		if x == s {
			return true
		}
	}
	return false
}

// cliLines bounds internal/cli: flags become a configuration, one call, a table.
// It is lowered as what decides moves out, and never raised.
const cliLines = 3500

// fileLines bounds a file that a person has written: one idea each.
const fileLines = 600

func TestSizes(t *testing.T) {
	cli, files := 0, 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (d.Name()[0] == '.' || d.Name() == "runs") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := bytes.Count(text, []byte{'\n'})
		files++
		if lines > fileLines && !bytes.HasPrefix(text, []byte("// Code generated ")) {
			t.Errorf("%s has %d lines: a file has one idea and at most %d", path, lines, fileLines)
		}
		if filepath.ToSlash(filepath.Dir(path)) == "../internal/cli" && !strings.HasSuffix(path, "_test.go") {
			cli += lines
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if cli > cliLines {
		t.Errorf("internal/cli has %d lines, want %d at most: what decides belongs into a package below it", cli, cliLines)
	}
	if cli == 0 || files < 300 {
		t.Errorf("%d files and %d lines of internal/cli were found: the house has moved", files, cli)
	}
}
