package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/regular"
)

// machineWorkers are worker processes of this machine, each with a log in dir.
type machineWorkers struct {
	dir     string
	command func(id string) *exec.Cmd
}

var _ processes = machineWorkers{}

func (m machineWorkers) Running(pid int) bool { return machine.Running(pid) }

func (m machineWorkers) Log(id string) string { return filepath.Join(m.dir, id+".log") }

func (m machineWorkers) Start(id string) (child, error) {
	// a file, not a pipe: a worker outlives the coordinator that started it
	log, err := regular.OpenFile(m.Log(id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd := m.command(id)
	// a process group of its own: Ctrl-C on the terminal reaches the coordinator alone, which decides
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, err
	}
	p := &process{cmd: cmd, log: log}
	p.from, _ = log.Seek(0, io.SeekEnd)
	p.kills, _ = machine.Kills()
	return p, nil
}

// process is a worker of this machine.
type process struct {
	cmd   *exec.Cmd
	log   *os.File
	from  int64 // where in the log its words begin
	kills int64 // of processes whose memory ran out, when it began
}

// exitLeft is the exit code of a worker that left because it was told to.
const exitLeft = 3

func (p *process) PID() int { return p.cmd.Process.Pid }

func (p *process) Kill() { p.cmd.Process.Kill() }

func (p *process) Wait() exit {
	defer p.log.Close()
	err := p.cmd.Wait()
	reason := exitReason(err, lastWords(p.log.Name(), p.from))
	if why := killedForMemory(p.kills); why != "" && killed(err) {
		reason += "; " + why
	}
	return exit{Reason: reason, Left: p.cmd.ProcessState != nil && p.cmd.ProcessState.ExitCode() == exitLeft}
}

// Words are without their time.
func (p *process) Words() string {
	words := lastWords(p.log.Name(), p.from)
	if i := strings.IndexByte(words, ' '); i > 0 && strings.Contains(words[:i], ":") {
		words = words[i+1:]
	}
	return words
}

// killed says whether a process ended by SIGKILL.
func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	st, ok := exit.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == syscall.SIGKILL
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
	if err != nil && last != "" && !(killed(err) && strings.Contains(last, " INFO ")) { // it had nothing to say of its end
		reason += "; its last words: " + last
	}
	return reason
}

// lastWords is the last line that a log holds beyond offset.
func lastWords(path string, offset int64) string {
	f, _, err := regular.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if i, err := f.Stat(); err == nil {
		offset = max(offset, i.Size()-4096)
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, offset, 4096))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// killedForMemory says what to do where a process was killed because its
// control group was out of memory: kills were so many when it began.
func killedForMemory(kills int64) string {
	now, ok := machine.Kills()
	if !ok || now <= kills {
		return ""
	}
	limit := ""
	if here, ok := machine.Memory(); ok {
		limit = fmt.Sprintf(" (%v)", here)
	}
	return fmt.Sprintf("the kernel killed it because memory ran out%s: a smaller batch.micro, model.recompute: true, fewer workers here (--workers), or more memory", limit)
}
