package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// childEnv marks a worker process that a coordinator started.
const childEnv = "VLARING_CHILD"

// children are the worker processes of this machine.
type children struct {
	cmds []*exec.Cmd
	wg   sync.WaitGroup
	done chan struct{} // closed by wait
}

// startWorkers starts the local workers, ids w0, w1, … in order of rank, and
// tells the coordinator as soon as one of them dies.
func startWorkers(r *run, l *link, coord *cluster.Coordinator) (*children, error) {
	c := &children{done: make(chan struct{})}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for i := range r.local {
		id := fmt.Sprintf("w%d", i)
		args := []string{"worker", "--nats", l.url, "--job", r.job.Name, "--id", id, "--threads", strconv.Itoa(r.threads), "--log-format", r.logs.format}
		for flag, v := range map[string]string{"--tls-ca": l.tls.tlsCA, "--tls-cert": l.tls.tlsCert, "--tls-key": l.tls.tlsKey, "--user": l.tls.user, "--creds": l.tls.creds} {
			if v != "" {
				args = append(args, flag, v)
			}
		}
		if r.logs.verbose {
			args = append(args, "--verbose")
		}
		cmd := exec.Command(self, args...)
		secret := l.creds.Token
		if l.creds.User != "" {
			secret = l.creds.Password
		}
		cmd.Env = append(withoutEnv(os.Environ(), tokenEnv, childEnv), tokenEnv+"="+secret, childEnv+"=1")
		// a process group of its own: Ctrl-C on the terminal reaches the coordinator alone, which decides
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		pr, pw := io.Pipe()
		cmd.Stdout, cmd.Stderr = pw, pw
		if err := cmd.Start(); err != nil {
			c.wait(true)
			return nil, fmt.Errorf("starting worker %s: %w", id, err)
		}
		c.cmds = append(c.cmds, cmd)
		var last lastLine
		c.wg.Add(2)
		go func() {
			defer c.wg.Done()
			s := bufio.NewScanner(pr)
			s.Buffer(nil, 1<<20)
			for s.Scan() {
				last.set(s.Text())
				fmt.Fprintln(r.logTo, s.Text())
			}
			io.Copy(io.Discard, pr)
		}()
		go func() {
			defer c.wg.Done()
			err := cmd.Wait()
			pw.Close()
			coord.Tell(cluster.WorkerGone{Worker: id, Reason: exitReason(err, last.get())})
		}()
	}
	return c, nil
}

// wait lets the workers leave by themselves for a while, then kills. now skips the while.
func (c *children) wait(now bool) {
	gone := make(chan struct{})
	go func() { c.wg.Wait(); close(gone) }()
	if !now {
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
		}
	}
	for _, cmd := range c.cmds {
		cmd.Process.Kill()
	}
	<-gone
	close(c.done)
}

func exitReason(err error, last string) string {
	reason := "its process ended"
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		reason = "its process ended with " + exit.ProcessState.String()
	case err != nil:
		reason = "its process: " + err.Error()
	}
	if err != nil && last != "" {
		reason += "; its last words: " + last
	}
	return reason
}

// lastLine remembers the last line that a process printed.
type lastLine struct {
	mu sync.Mutex
	s  string
}

func (l *lastLine) set(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s = strings.TrimSpace(s); s != "" {
		l.s = s
	}
}

func (l *lastLine) get() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s
}

func withoutEnv(env []string, names ...string) []string {
	var out []string
next:
	for _, e := range env {
		for _, n := range names {
			if strings.HasPrefix(e, n+"=") {
				continue next
			}
		}
		out = append(out, e)
	}
	return out
}
