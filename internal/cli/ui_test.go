package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const pageJob = `name: seen
model: {kind: vla, image_size: 32, patch_size: 8, d_model: 64, n_heads: 4, n_layers: 2, d_ff: 128, action_dim: 7}
data: {kind: tabletop, scene: simple, episodes: 200, holdout: {fraction: 0.05}}
batch: {global: 32, micro: 8}
train: {steps: 100000, eval_every: 100}
checkpoint: {every: 100, keep: 3}
cluster: {workers: 2}
`

var pageURL = regexp.MustCompile(`page: (http://127\.0\.0\.1:\d+/)`)

// A Chromium opens the page of a run of two workers while it goes on, sees one of them
// be killed and come back, and then the run's end; and another page of the same
// directory shows all of it, at any width, with every control in reach of a keyboard.
func TestPageInABrowser(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("NOT RUN: a whole run and a browser")
	}
	b := openBrowser(t)
	dir := filepath.Join(t.TempDir(), strings.Repeat("wide", 20))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(path, []byte(pageJob), 0o644); err != nil {
		t.Fatal(err)
	}
	runs := filepath.Join(dir, "runs")
	p := start(t, nil, bin.coordinator, "train", path, "--run-dir", filepath.Join(runs, "seen"), "--threads", "1", "--json", "--ui=127.0.0.1:0")
	p.event("joined")
	second := p.event("joined")
	p.event("step")
	drained := make(chan struct{})
	go func() { // so that it does not wait for us
		defer close(drained)
		for p.stdout.Scan() {
		}
	}()
	var url []string
	until(t, "train --ui says its URL", func() bool {
		url = pageURL.FindStringSubmatch(p.errText())
		return url != nil
	})

	b.size(1400, 1000, "light")
	b.do("Page.enable", nil)
	b.do("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": "window.mistakes = []; addEventListener('error', (e) => mistakes.push(e.message)); addEventListener('unhandledrejection', (e) => mistakes.push(String(e.reason))); addEventListener('securitypolicyviolation', (e) => mistakes.push('policy: ' + e.violatedDirective + ' ' + e.blockedURI));"})
	b.do("Page.navigate", map[string]any{"url": url[1]})
	b.sees("the run goes on", `document.querySelector('h1 .pill.running')`)
	step := `Number(document.querySelector('.tile dd')?.firstChild.textContent.replace(/\D/g, ''))`
	b.sees("a step was made", step+" > 0")
	b.eval("window.early = " + step)
	b.sees("steps go on", step+" > window.early")
	b.sees("the loss is a curve", `document.querySelector('#curves svg path[stroke]')?.getAttribute('d').length > 20`)
	b.sees("both workers are in the ring", `document.querySelectorAll('#workers .joins tbody tr').length === 2`)
	b.shoot("running")

	pid := int(second["pid"].(float64))
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	rows := `[...document.querySelectorAll('#workers .joins tbody tr')].map((r) => r.textContent)`
	b.sees("a worker was lost, and why", rows+`.some((r) => r.includes('lost worker') && r.includes('killed'))`)
	b.sees("it is back", rows+`.some((r) => r.includes('back') && r.includes('is there'))`)
	b.sees("both are signs on the time line", `document.querySelector('#workers .lost') && document.querySelector('#workers svg').getAttribute('aria-label').includes('1 losses, 1 returns')`)
	b.sees("a checkpoint was stored", `document.querySelectorAll('#stored tbody tr').length > 0`)
	b.sees("dimensions were measured", `[...document.querySelectorAll('#held tbody th')].some((c) => c.textContent === 'gripper')`)
	b.eval(`document.querySelector('#stored button').click()`)
	b.sees("a checkpoint was read to the last byte, or has gone since", `/every byte read|is not there|no such/.test(document.querySelector('#stored').textContent) || document.querySelector('#stored button')`)

	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-drained
	if code, _ := p.wait(); code != exitResume {
		t.Errorf("the run ended with %d: %s", code, p.errText())
	}
	b.sees("nobody answers any more", `document.querySelector('#standing').textContent.includes('no answer')`)

	later := start(t, nil, bin.coordinator, "ui", runs, "--listen", "127.0.0.1:0")
	if !later.stdout.Scan() {
		t.Fatalf("ui says no URL: %s", later.errText())
	}
	b.do("Page.navigate", map[string]any{"url": later.stdout.Text() + "#/run/seen"})
	b.sees("the run has stopped", `document.querySelector('h1 .pill.stopped')`)
	b.sees("who took part", rows+`.length === 3 && `+rows+`.every((r) => !r.includes('is there'))`)
	b.sees("what each worker has waited for the ring", `document.querySelectorAll('#workers svg .wait').length > 1 && document.querySelectorAll('#workers .waits tbody tr').length === 2`)
	b.eval(`document.querySelector('#stored button').click()`)
	b.sees("every byte of a checkpoint was read", `document.querySelector('#stored').textContent.includes('every byte read, good')`)
	b.eval(`document.querySelector('#samples').scrollIntoView()`)
	b.sees("a sample has a picture with both ways, attention, and numbers", `document.querySelector('#samples img')?.naturalWidth > 0 && document.querySelectorAll('#samples .pic svg .way path').length >= 8 && document.querySelector('#samples .pictures + p').textContent.includes('as this camera sees it') && document.querySelectorAll('#samples .pic svg rect').length > 3 && document.querySelectorAll('#samples tbody tr').length === 7`)

	b.eval(`document.querySelector('#curves svg').focus()`)
	for _, key := range []string{"Home", "ArrowRight"} {
		for _, kind := range []string{"rawKeyDown", "keyUp"} {
			b.do("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key})
		}
	}
	b.sees("a key reads a value, and it is said", `document.querySelector('#curves .readout span').textContent === 'step 2' && /^step 2, /.test(document.getElementById('said').textContent)`)
	b.eval(`document.querySelector('#curves details').open = true`)
	b.sees("a curve is a table, too", `document.querySelectorAll('#curves details tbody tr').length > 5`)
	b.drag(`#curves svg`, 0.5, 0.8)
	b.sees("a part that was chosen with the mouse is all that is shown", `[...document.querySelectorAll('#curves button')].find((x) => x.textContent === 'all steps' && !x.hidden)`)
	b.eval(`[...document.querySelectorAll('#curves button')].find((x) => x.textContent === 'all steps').click()`)
	b.sees("all is shown again", `[...document.querySelectorAll('#curves button')].every((x) => x.textContent !== 'all steps' || x.hidden)`)
	b.eval(`document.querySelector('#curves select').value = 'time'; document.querySelector('#curves select').dispatchEvent(new Event('change'))`)
	b.sees("curves lie against time", `/^time /.test(document.querySelector('#curves .readout').textContent)`)
	for name, js := range map[string]string{
		"every control has a name":       `[...document.querySelectorAll('button, select, input, a')].every((e) => (e.getAttribute('aria-label') || e.textContent || e.closest('label')?.textContent || '').trim())`,
		"every picture has a name":       `[...document.querySelectorAll('img, svg[role=img]')].every((e) => e.getAttribute('alt') || e.getAttribute('aria-label'))`,
		"there is one main and one h1":   `document.querySelectorAll('main').length === 1 && document.querySelectorAll('h1').length === 1`,
		"every section has a heading":    `[...document.querySelectorAll('main section')].every((e) => e.querySelector('h2'))`,
		"every head of a table is one":   `[...document.querySelectorAll('main th')].every((e) => e.getAttribute('scope'))`,
		"nothing went wrong":             `mistakes.length === 0`,
		"nothing comes from elsewhere":   `performance.getEntriesByType('resource').every((e) => e.name.startsWith(location.origin) || e.name.startsWith('data:'))`,
		"the document says its language": `document.documentElement.lang === 'en'`,
	} {
		if b.eval(js) != "true" {
			t.Errorf("%s: no; mistakes: %s", name, b.eval(`mistakes.join('; ')`))
		}
	}
	b.eval(`document.querySelector('#curves details').open = false; document.activeElement.blur(); scrollTo(0, 0)`)
	b.shoot("desktop")
	b.size(1400, 1000, "dark")
	b.shoot("dark")
	b.size(390, 844, "light")
	if w := b.eval(`document.documentElement.scrollWidth`); w != "390" {
		t.Errorf("at a phone's width the page is %s wide: %s", w, b.eval(`[...document.querySelectorAll('main *')].filter((e) => Math.max(e.scrollWidth, e.getBoundingClientRect().right) > 391 && !e.closest('.scroll, pre')).slice(-3).map((e) => e.outerHTML.slice(0, 120)).join('\n')`))
	}
	b.shoot("phone")
	later.cmd.Process.Signal(syscall.SIGTERM)
	if code, _ := later.wait(); code != 0 {
		t.Errorf("ui ended with %d: %s", code, later.errText())
	}
}

// Wrong use of the page is one clear error.
func TestUIErrors(t *testing.T) {
	t.Parallel()
	taken := start(t, nil, bin.coordinator, "ui", t.TempDir(), "--listen", "127.0.0.1:0")
	if !taken.stdout.Scan() {
		t.Fatal(taken.errText())
	}
	addr := strings.TrimSuffix(strings.TrimPrefix(taken.stdout.Text(), "http://"), "/")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ui"}, "wants run directories"},
		{[]string{"ui", "no/such"}, "there is no folder no/such"},
		{[]string{"ui", "ui_test.go"}, "ui_test.go is a file"},
		{[]string{"ui", ".", "--listen", "7007"}, "--listen"},
		{[]string{"ui", ".", "--listen", addr}, "cannot listen on " + addr},
		{[]string{"train", "../../examples/tabletop.yaml", "--run-dir", filepath.Join(t.TempDir(), "r"), "--ui=" + addr}, "cannot listen on " + addr},
	} {
		p := start(t, nil, bin.coordinator, c.args...)
		if code, _ := p.wait(); code != 2 || !strings.Contains(p.errText(), c.want) {
			t.Errorf("%v: %d, %s; want %q", c.args, code, p.errText(), c.want)
		}
	}
	end := time.AfterFunc(time.Minute, func() { taken.cmd.Process.Kill() })
	defer end.Stop()
	taken.cmd.Process.Signal(syscall.SIGINT)
	if code, _ := taken.wait(); code != 0 {
		t.Errorf("Ctrl-C: %d", code)
	}
}
