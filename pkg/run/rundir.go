package run

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
)

// JobCopy is the file of a run directory that holds the resolved job.
const JobCopy = "job.yaml"

// OriginFile keeps what the job file itself does not say: where it was, and so
// where its relative paths start; and whether the run has come to an end.
const OriginFile = "run.json"

// Origin is what run.json holds.
type Origin struct {
	JobFile string `json:"job_file"`
	BaseDir string `json:"base_dir"`
	State   string `json:"state"` // running, or how it ended
	Step    uint64 `json:"step"`  // committed at its start, or at its end
	Data    string `json:"data"`  // fingerprint
}

// StateRunning stays where a coordinator dies.
const StateRunning = "running"

// StateAbandoned is a run that was ended at once, with its workers.
const StateAbandoned = "abandoned"

func writeOrigin(dir string, o Origin) error {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, OriginFile), append(b, '\n'), 0o644)
}

// ReadOrigin reads that of the run directory dir.
func ReadOrigin(dir string) (o Origin, err error) {
	b, err := regular.Read(filepath.Join(dir, OriginFile), 1<<20)
	if err == nil {
		if err = json.Unmarshal(b, &o); err != nil {
			err = fmt.Errorf("%s: %w", filepath.Join(dir, OriginFile), err)
		}
	}
	return o, err
}

// AddressFile says where a run's broker is, for a coordinator that takes over
// and for the commands that speak to a running job. It holds the token, so
// only its owner may read it.
const AddressFile = "broker.json"

// Address is what broker.json holds.
type Address struct {
	URL    string `json:"url"`
	Job    string `json:"job"`
	Host   string `json:"host,omitempty"` // that the embedded broker listens on
	Port   int    `json:"port,omitempty"`
	Routes string `json:"routes,omitempty"` // host:port for the workers' brokers, of a mesh
	Token  string `json:"token,omitempty"`
	Name   string `json:"tls_name,omitempty"` // that its certificate has, where that is not the URL's host
}

func writeAddress(dir string, a Address) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, AddressFile), append(b, '\n'), 0o600)
}

// ReadAddress reads that of the run directory dir.
func ReadAddress(dir string) (a Address, err error) {
	b, err := regular.Read(filepath.Join(dir, AddressFile), 1<<20)
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	return a, err
}

// Moved says where the server is now of which file is the AddressFile; nil where it
// is no path of one.
func Moved(file string) func() string {
	if !filepath.IsAbs(file) {
		return nil
	}
	return func() string {
		a, _ := ReadAddress(filepath.Dir(file))
		return a.URL
	}
}

// isDir says whether path is a directory that can be looked at.
func isDir(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.IsDir()
}

// CheckpointsDir is the directory of checkpoints that dir means: that of a run
// directory, or dir itself.
func CheckpointsDir(dir string) string {
	if sub := filepath.Join(dir, "checkpoints"); isDir(sub) {
		return sub
	}
	return dir
}

// BaseDir is where the relative paths of the job of the checkpoint in dir start, if
// it still lies in its run directory; else here.
func BaseDir(dir string) string {
	if o, err := ReadOrigin(filepath.Join(dir, "..", "..")); err == nil {
		return o.BaseDir
	}
	return "."
}
