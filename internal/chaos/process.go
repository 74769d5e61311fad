package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
)

// markEnv marks the processes of one chaos.
const markEnv = "VLARING_CHAOS"

// setGuard starts a process that ends all of this chaos's once chaos itself is
// gone, however that comes: one that SIGKILL ends can tidy nothing up, and would
// leave workers frozen for ever. dismiss ends it.
func (x *chaos) setGuard() (dismiss func(), err error) {
	x.mark = fmt.Sprintf("%d-%x", os.Getpid(), rand.Uint64())
	x.guard = x.Commands.Guard(x.mark)
	x.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hold, err := x.guard.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := x.guard.Start(); err != nil {
		return nil, err
	}
	return func() {
		hold.Close()
		x.guard.Wait()
	}, nil
}

// Guard ends all processes that bear the mark, once in has ended: whoever holds
// the other end of it is gone. It must outlive the signals that end that one.
func Guard(in io.Reader, mark string) {
	io.Copy(io.Discard, in)
	killMarked(markEnv, mark)
}

// marked makes cmd one of this chaos's processes. Ctrl-C is for chaos alone.
func (x *chaos) marked(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(cmd.Environ(), markEnv+"="+x.mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// coordinator is a coordinator's process.
type coordinator struct {
	cmd  *exec.Cmd
	log  string
	hash string // of its end event
	done chan struct{}
	err  error
}

// start starts a coordinator whose words go to the end of DIR.log. It is killed
// when ctx ends.
func (x *chaos) start(ctx context.Context, dir string, cmd *exec.Cmd) (*coordinator, error) {
	p := &coordinator{cmd: x.marked(cmd), done: make(chan struct{})}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	p.log, cmd.Stderr = f.Name(), f
	if err := cmd.Start(); err != nil {
		f.Close()
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	go func() {
		defer close(p.done)
		defer f.Close()
		defer release()
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<24)
		for s.Scan() {
			var e struct {
				Event  string `json:"event"`
				SHA256 string `json:"model_sha256"`
			}
			if json.Unmarshal(s.Bytes(), &e) == nil && e.Event == "end" {
				p.hash = e.SHA256
			}
		}
		p.err = cmd.Wait()
	}()
	return p, nil
}

// kill ends it and waits for it.
func (p *coordinator) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// ended says whether it has.
func (p *coordinator) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *coordinator) lastWords() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-2000):])
}
