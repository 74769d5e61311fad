// Command release builds what is published: static binaries of both commands for each
// platform, an archive each with the documents that belong to it, a list of what is
// built in (CycloneDX), and the checksums of all. The same commit by the same Go gives
// the same bytes, on any machine and at any time.
//
//	go run ./tools/release                          # into dist/, of the commit that is checked out
//	go run ./tools/release --version v1.2.3 --out /tmp/dist --platforms linux/arm64
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"
)

// release is one commit's.
type release struct {
	version, commit string
	date            time.Time // of the commit
}

func main() {
	version := flag.String("version", "", "version to write into the binaries (default: git describe)")
	out := flag.String("out", "dist", "folder that it goes to; what else is in there stays")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "GOOS/GOARCH, separated by commas")
	flag.Parse()
	if err := run(*version, *out, strings.Split(*platforms, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(version, out string, platforms []string) error {
	r, err := describe(version)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var sums []string
	for _, p := range platforms {
		goos, arch, ok := strings.Cut(p, "/")
		if !ok {
			return fmt.Errorf("--platforms %q: want GOOS/GOARCH, e.g. linux/arm64", p)
		}
		name := fmt.Sprintf("vlaring_%s_%s_%s", r.version, goos, arch)
		dir := filepath.Join(out, goos+"_"+arch)
		if err := r.build(dir, goos, arch); err != nil {
			return err
		}
		var entries []entry
		for _, command := range commands {
			entries = append(entries, entry{name + "/" + command, filepath.Join(dir, command), 0o755})
		}
		for _, doc := range []string{"README.md", "CHANGELOG.md"} {
			entries = append(entries, entry{name + "/" + doc, doc, 0o644})
		}
		list, err := bill(filepath.Join(dir, commands[0]), r)
		if err != nil {
			return err
		}
		for file, write := range map[string]func(io.Writer) error{
			name + ".tar.gz":   func(w io.Writer) error { return pack(w, entries, r.date) },
			name + ".cdx.json": func(w io.Writer) error { _, err := w.Write(list); return err },
		} {
			var b bytes.Buffer
			if err := write(&b); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(out, file), b.Bytes(), 0o644); err != nil {
				return err
			}
			sum := sha256.Sum256(b.Bytes())
			sums = append(sums, hex.EncodeToString(sum[:])+"  "+file)
		}
	}
	sort.Slice(sums, func(i, j int) bool { return sums[i][64:] < sums[j][64:] })
	text := strings.Join(sums, "\n") + "\n"
	fmt.Print(text)
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(text), 0o644)
}

// commands are what an archive has.
var commands = []string{"coordinator", "worker"}

// describe is the commit that is checked out.
func describe(version string) (r release, err error) {
	git := func(args ...string) (string, error) {
		b, err := exec.Command("git", args...).Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w: a release is made in a clone, at its top", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	if r.commit, err = git("rev-parse", "HEAD"); err != nil {
		return r, err
	}
	at, err := git("show", "-s", "--format=%cI", "HEAD")
	if err != nil {
		return r, err
	}
	if r.date, err = time.Parse(time.RFC3339, at); err != nil {
		return r, err
	}
	r.date, r.version = r.date.UTC(), version
	if r.version == "" {
		if r.version, err = git("describe", "--tags", "--always", "--abbrev=12"); err != nil {
			return r, err
		}
	}
	changed, err := git("status", "--porcelain", "--untracked-files=no")
	if changed != "" {
		r.version += "-dirty"
	}
	return r, err
}

// build makes the commands of a platform, in dir.
func (r release) build(dir, goos, arch string) error {
	const set = "-X github.com/vlaring/vlaring/internal/cli."
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/",
		"-ldflags", "-s -w -buildid= "+set+"version="+r.version+" "+set+"commit="+r.commit+" "+set+"date="+r.date.Format(time.DateOnly))
	for _, command := range commands {
		c.Args = append(c.Args, "./cmd/"+command)
	}
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0")
	c.Stderr = os.Stderr
	return c.Run()
}

// entry is a file of an archive.
type entry struct {
	name, path string
	mode       int64
}

// pack writes an archive in which nothing but the files' bytes, names and the
// moment of the commit stand.
func pack(w io.Writer, entries []entry, at time.Time) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, e := range entries {
		b, err := os.ReadFile(e.path)
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(b)), ModTime: at, Format: tar.FormatPAX}); err != nil {
			return err
		}
		if _, err := t.Write(b); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// component is a module, as CycloneDX has it.
type component struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	Hashes  []hash `json:"hashes,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

// bill lists the modules that a binary is made of, as the binary itself says.
func bill(path string, r release) ([]byte, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list := []component{{"library", "std", strings.TrimPrefix(info.GoVersion, "go"), "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), nil}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{"library", m.Path, m.Version, "pkg:golang/" + m.Path + "@" + m.Version, nil}
		if sum, ok := strings.CutPrefix(m.Sum, "h1:"); ok { // go.sum's, of the module's tree
			if b, err := base64.StdEncoding.DecodeString(sum); err == nil {
				c.Hashes = []hash{{"SHA-256", hex.EncodeToString(b)}}
			}
		}
		list = append(list, c)
	}
	b, err := json.MarshalIndent(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
		"metadata": map[string]any{
			"timestamp":  r.date.Format(time.RFC3339),
			"component":  component{"application", "github.com/vlaring/vlaring", r.version, "pkg:golang/github.com/vlaring/vlaring@" + r.version, nil},
			"properties": []map[string]string{{"name": "commit", "value": r.commit}, {"name": "go", "value": runtime.Version()}},
		},
		"components": list,
	}, "", " ")
	return append(b, '\n'), err
}
