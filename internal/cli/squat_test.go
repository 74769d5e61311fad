package cli

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/run"
)

// After a coordinator is killed somebody else takes its broker's port, says what a
// broker says, and hears nothing. The coordinator comes back at another port, where
// its workers find it: the same processes go on, and the weights are the undisturbed ones.
func TestPortTakenAfterAKill(t *testing.T) {
	t.Parallel()
	args := []string{"testdata/small.yaml", "--workers", "2", "--threads", "1", "--set", "train.steps=200", "--set", "checkpoint.every=100", "--set", "schedule.min_lr=null", "--set", "cluster.deadline=2s"}
	want := undisturbed(t, "train.steps=200", "schedule.min_lr=null")
	dir := filepath.Join(t.TempDir(), "run")
	command := append([]string{"train", "--json", "--run-dir", dir}, args...)
	p := start(t, nil, bin.coordinator, command...)
	for range 20 {
		p.event("step")
	}
	a, err := run.ReadAddress(dir)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Process.Kill()
	p.wait()
	var l net.Listener
	until(t, "the port is taken", func() bool {
		l, err = net.Listen("tcp", strings.TrimPrefix(a.URL, "nats://"))
		return err == nil
	})
	defer l.Close()
	heard := make(chan string, 4096)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Second))
				fmt.Fprint(c, `INFO {"server_id":"x","version":"2.15.2","proto":1,"headers":true,"max_payload":1048576,"nonce":"abcdefghijk"}`+"\r\n")
				for r := bufio.NewScanner(c); r.Scan(); {
					heard <- r.Text()
				}
			}()
		}
	}()
	time.Sleep(time.Second) // its workers try
	p = start(t, nil, bin.coordinator, command...)
	end := p.event("end")
	if code, _ := p.wait(); code != 0 || end["model_sha256"] != want {
		t.Fatalf("exit code %d, weights %v, want %s\n%s", code, end["model_sha256"], want, p.errText())
	}
	said := p.errText()
	if !strings.Contains(said, "where this run's broker was, is not to be had: it takes another one") || !strings.Contains(said, "taking over 2 workers") {
		t.Errorf("it says\n%s", said)
	}
	for len(heard) > 0 {
		if s := <-heard; strings.Contains(s, a.Token) || strings.Contains(s, "CONNECT") || strings.Contains(s, "sig") {
			t.Errorf("who took the port heard %q", s)
		}
	}
}
