package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// browser is a page in a headless Chromium, spoken to by its DevTools protocol.
type browser struct {
	t    *testing.T
	conn *websocket.Conn
	next int
}

// openBrowser starts the Chromium that there is, and says aloud where there is none.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := os.Getenv("VLARING_BROWSER")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil && path == "" {
			path = p
		}
	}
	if path == "" {
		t.Skip("NOT RUN: no chromium, chromium-browser or google-chrome is on the PATH, and VLARING_BROWSER names none")
	}
	dir := t.TempDir()
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--hide-scrollbars", "--remote-debugging-port=0", "--user-data-dir="+dir, "about:blank")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir) // where it leaves a folder of its own
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		for range 50 { // its children still write there for a moment
			if os.RemoveAll(dir) == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	var target string
	comes(t, time.Minute, "the browser listens", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		port, _, whole := strings.Cut(string(b), "\n")
		if err != nil || !whole {
			return false
		}
		r, err := http.Get("http://127.0.0.1:" + port + "/json/list")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		var pages []struct {
			Type string `json:"type"`
			URL  string `json:"webSocketDebuggerUrl"`
		}
		json.NewDecoder(r.Body).Decode(&pages)
		for _, p := range pages {
			if p.Type == "page" {
				target = p.URL
			}
		}
		return target != ""
	})
	conn, _, err := websocket.Dial(context.Background(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(64 << 20)
	t.Cleanup(func() { conn.CloseNow() })
	return &browser{t: t, conn: conn}
}

// comes waits until is says so.
func comes(t *testing.T, most time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("within %v it did not come that %s", most, what)
		}
	}
}

// do is one command of the protocol.
func (b *browser) do(method string, params map[string]any) json.RawMessage {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b.next++
	q, err := json.Marshal(map[string]any{"id": b.next, "method": method, "params": params})
	if err == nil {
		err = b.conn.Write(ctx, websocket.MessageText, q)
	}
	for err == nil {
		var a struct {
			ID     int             `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		var m []byte
		if _, m, err = b.conn.Read(ctx); err == nil {
			err = json.Unmarshal(m, &a)
		}
		if err == nil && a.ID == b.next {
			if a.Error == nil {
				return a.Result
			}
			err = fmt.Errorf("%s", a.Error.Message)
		}
	}
	b.t.Fatalf("browser, %s: %v", method, err)
	return nil
}

// eval is the text that an expression has on the page.
func (b *browser) eval(js string) string {
	b.t.Helper()
	var r struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string         `json:"text"`
			Exception map[string]any `json:"exception"`
		} `json:"exceptionDetails"`
	}
	if err := json.Unmarshal(b.do("Runtime.evaluate", map[string]any{"expression": js, "awaitPromise": true, "returnByValue": true}), &r); err != nil {
		b.t.Fatal(err)
	}
	if r.Exception != nil {
		b.t.Fatalf("browser, %s: %s %v", js, r.Exception.Text, r.Exception.Exception["description"])
	}
	return fmt.Sprint(r.Result.Value)
}

// sees waits for an expression to be true.
func (b *browser) sees(what, js string) {
	b.t.Helper()
	end := time.Now().Add(90 * time.Second)
	for b.eval("!!("+js+")") != "true" {
		if time.Now().After(end) {
			b.t.Fatalf("the page does not show that %s; it shows\n%s", what, b.eval("document.body.innerText.slice(0, 3000)"))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// drag moves the pressed mouse over an element, from one part of its width to another.
func (b *browser) drag(selector string, from, to float64) {
	b.t.Helper()
	var box struct{ X, Y, W, H float64 }
	at := b.eval("document.querySelector('" + selector + "').scrollIntoView({block: 'center'}); (({x, y, width, height}) => JSON.stringify({X: x, Y: y, W: width, H: height}))(document.querySelector('" + selector + "').getBoundingClientRect())")
	if err := json.Unmarshal([]byte(at), &box); err != nil {
		b.t.Fatal(err)
	}
	for _, e := range []struct {
		kind string
		at   float64
	}{{"mouseMoved", from}, {"mousePressed", from}, {"mouseMoved", (from + to) / 2}, {"mouseMoved", to}, {"mouseReleased", to}} {
		b.do("Input.dispatchMouseEvent", map[string]any{"type": e.kind, "x": box.X + e.at*box.W, "y": box.Y + box.H/2, "button": "left", "buttons": 1, "clickCount": 1})
	}
}

// size gives the page a width and a colour scheme.
func (b *browser) size(width, height int, scheme string) {
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// shoot keeps a picture of the page in the folder that VLARING_SHOTS names, to be
// looked at by a person.
func (b *browser) shoot(name string) {
	dir := os.Getenv("VLARING_SHOTS")
	if dir == "" {
		return
	}
	time.Sleep(500 * time.Millisecond) // what is drawn by a change of size
	var r struct {
		Data string `json:"data"`
	}
	json.Unmarshal(b.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": false}), &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}
