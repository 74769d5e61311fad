package main

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The same commit gives the same bytes in any folder, the binaries are static and say
// what they are, and the list names what is built in.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("builds both commands for two platforms, twice")
	}
	t.Chdir("../..")
	if _, err := os.Stat(".git"); err != nil {
		t.Skip("NOT RUN: a release is made of a commit, and this is no clone")
	}
	// A platform is compiled anew, with paths cut away, and each program linked: one platform
	// once for everybody, two and one of them again with VLARING_LONG=1.
	here := runtime.GOOS + "/" + runtime.GOARCH
	builds, archs := [][]string{{here}}, map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if os.Getenv("VLARING_LONG") != "" {
		builds = [][]string{{"linux/amd64", "linux/arm64"}, {"linux/arm64"}}
	} else {
		maps.DeleteFunc(archs, func(arch string, _ elf.Machine) bool { return arch != runtime.GOARCH || runtime.GOOS != "linux" })
	}
	dirs := []string{t.TempDir(), t.TempDir()}
	var sums []string
	for i, platforms := range builds {
		if err := run("v9.8.7", dirs[i], platforms); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dirs[i], "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, string(b))
	}
	lines := strings.Split(strings.TrimSpace(sums[0]), "\n")
	if len(lines) != 2*len(builds[0]) {
		t.Errorf("checksums of %d files", len(lines))
	}
	for _, l := range lines {
		sum, file, _ := strings.Cut(l, "  ")
		b, err := os.ReadFile(filepath.Join(dirs[0], file))
		if err != nil || fmt.Sprintf("%x", sha256.Sum256(b)) != sum {
			t.Errorf("%s: %v", file, err)
		}
		if len(sums) > 1 && strings.Contains(file, "arm64") && !strings.Contains(sums[1], l+"\n") {
			t.Errorf("a second build differs: %s, and now\n%s", l, sums[1])
		}
	}
	for arch, machine := range archs {
		for _, c := range commands {
			f, err := elf.Open(filepath.Join(dirs[0], "linux_"+arch, c))
			if err != nil {
				t.Fatal(err)
			}
			if f.Machine != machine || f.Section(".interp") != nil {
				t.Errorf("%s for %s is for %v, or not static", c, arch, f.Machine)
			}
			f.Close()
		}
	}
	out, err := exec.Command(filepath.Join(dirs[0], runtime.GOOS+"_"+runtime.GOARCH, "coordinator"), "--version").CombinedOutput()
	if commit, _ := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output(); err != nil || !strings.Contains(string(out), "v9.8.7") || !strings.Contains(string(out), strings.TrimSpace(string(commit))) {
		t.Errorf("--version says %q, %v", out, err)
	}
	lists, _ := filepath.Glob(filepath.Join(dirs[0], "*.cdx.json"))
	for _, l := range lists {
		b, _ := os.ReadFile(l)
		var list struct {
			BOMFormat  string
			Components []component
		}
		if err := json.Unmarshal(b, &list); err != nil || list.BOMFormat != "CycloneDX" || len(list.Components) < 20 {
			t.Errorf("%s: %v, %d components", l, err, len(list.Components))
		}
		for _, c := range list.Components[1:] {
			if !strings.HasPrefix(c.Version, "v") || len(c.Hashes) != 1 {
				t.Errorf("%s: %+v", l, c)
			}
		}
	}
}

// An archive has nothing of the machine that it is made on.
func TestPack(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var sums []string
	for range 2 {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := pack(&b, []entry{{"d/f", path, 0o644}}, at); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(b.Bytes())))
	}
	if sums[0] != sums[1] {
		t.Error("two archives of the same differ")
	}
	if err := run("v1", t.TempDir(), []string{"linux"}); err == nil || !strings.Contains(err.Error(), "want GOOS/GOARCH") {
		t.Errorf("a platform without architecture: %v", err)
	}
}
