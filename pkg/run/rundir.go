package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/netaddr"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/job"
)

// mayChange are the keys of a job that a resumed run may set anew: none of
// them decides what a step computes. A longer run stretches the cosine of the
// schedule, which the user asks for by changing train.steps.
var mayChange = map[string]bool{"train.steps": true, "train.eval_every": true, "checkpoint": true, "cluster": true, "init": true,
	"data.path": true, "data.holdout.path": true, "data.skip": true, "data.delivery": true, "data.action_names": true, "data.action_units": true, "distill.teacher": true, "distill.scale": true, "distill.shift": true} // the teacher is known by its hash

// sameRun refuses to resume a run under another job, and names every key that differs.
func sameRun(was, is *job.Job) error {
	diff := slices.DeleteFunc(changes(was, is), func(c change) bool {
		top, _, _ := strings.Cut(c.key, ".")
		return mayChange[c.key] || mayChange[top] && c.key != "cluster.reduce" && c.key != "cluster.wire"
	})
	if len(diff) == 0 {
		return nil
	}
	return usage.Errorf("the run that is to be resumed was made by another job:\n%s\nresume with the values of the run, or start another with --run-dir", listed(diff))
}

// change is a key of a job that differs between two.
type change struct{ key, was, is string }

func (c change) String() string {
	return fmt.Sprintf("%s: %s in the run, %s now", c.key, orNone(c.was), orNone(c.is))
}

// listed has one change a line, and never more than a screen of them.
func listed(l []change) string {
	const most = 20
	var s []string
	for i, c := range l {
		if i == most {
			s = append(s, fmt.Sprintf("  and %d more", len(l)-most))
			break
		}
		s = append(s, "  "+c.String())
	}
	return strings.Join(s, "\n")
}

// changes are all keys that differ, in the order of the job file.
func changes(was, is *job.Job) (l []change) {
	a, b := flat(was), flat(is)
	keys := append([]string(nil), a.keys...)
	for _, k := range b.keys {
		if _, ok := a.vals[k]; !ok {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		if a.vals[k] != b.vals[k] {
			l = append(l, change{k, a.vals[k], b.vals[k]})
		}
	}
	return l
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

type flatJob struct {
	keys []string
	vals map[string]string
}

// flat is the resolved job as dotted keys.
func flat(j *job.Job) flatJob {
	f := flatJob{vals: map[string]string{}}
	var root yaml.Node
	if err := yaml.Unmarshal(j.YAML(), &root); err != nil {
		panic("cli: the resolved job is not YAML: " + err.Error())
	}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			var b bytes.Buffer
			e := yaml.NewEncoder(&b)
			n.Style = yaml.FlowStyle
			e.Encode(n)
			f.keys = append(f.keys, prefix)
			f.vals[prefix] = strings.TrimSpace(b.String())
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i].Value
			if prefix != "" {
				k = prefix + "." + k
			}
			walk(k, n.Content[i+1])
		}
	}
	walk("", root.Content[0])
	return f
}

// HostPort reads the value of a flag that says where to listen.
func HostPort(flag, s string) (string, int, error) {
	h, p, err := net.SplitHostPort(s)
	if err == nil {
		var n int
		if n, err = strconv.Atoi(p); err == nil && n >= 1 && n <= 65535 {
			if h == "" {
				h = netaddr.All()
			}
			return h, n, nil
		}
	}
	return "", 0, usage.Errorf("%s %q: want host:port, e.g. 0.0.0.0:4222", flag, s)
}

// Abs resolves a path of the job file against the file's own directory.
func Abs(base, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(base, path)
}

// JobCopy is the file of a run directory that holds the resolved job.
const JobCopy = "job.yaml"

// OriginFile keeps what the job file itself does not say: where it was, and so
// where its relative paths start; and whether the run has come to an end.
const OriginFile = "run.json"

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

type Address struct {
	URL    string `json:"url"`
	Job    string `json:"job"`
	Host   string `json:"host,omitempty"` // that the embedded broker listens on
	Port   int    `json:"port,omitempty"`
	Routes string `json:"routes,omitempty"` // host:port for the workers' brokers, of a mesh
	Token  string `json:"token,omitempty"`
	Name   string `json:"tls_name,omitempty"` // that its certificate has, where that is not the URL's host
}

func writeAddress(dir string, l *link) error {
	a := Address{URL: l.url, Job: l.job}
	if l.broker != nil {
		a.Host, a.Token, a.Name = l.host, l.creds.Token, l.tlsName
		a.Port, a.Routes = PortOf(l.url), l.broker.RouteAddr()
	}
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, AddressFile), append(b, '\n'), 0o600)
}

// PortOf is the port of a URL, 0 for none.
func PortOf(s string) int {
	u, err := url.Parse(s)
	if err != nil {
		return 0
	}
	p, _ := strconv.Atoi(u.Port())
	return p
}

func ReadAddress(dir string) (a Address, err error) {
	b, err := regular.Read(filepath.Join(dir, AddressFile), 1<<20)
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	return a, err
}

// RunBase is where the relative paths of a checkpoint's job start, if the
// checkpoint still lies in its run directory.
func RunBase(checkpointDir string) (string, error) {
	o, err := ReadOrigin(filepath.Join(checkpointDir, "..", ".."))
	return o.BaseDir, err
}

// IsDir says whether path is a directory that can be looked at.
func IsDir(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.IsDir()
}
