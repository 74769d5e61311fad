package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/inspect"
	"github.com/vlaring/vlaring/pkg/data"
)

// pictureFolder writes a folder of n samples, one picture each, and returns it.
func pictureFolder(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	var manifest bytes.Buffer
	for i := range n {
		m := image.NewGray(image.Rect(0, 0, 16, 16))
		for p := range m.Pix {
			m.Pix[p] = byte(p*(i+3)) ^ byte(i)
		}
		m.Set(0, 0, color.Gray{byte(i)})
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		writeTo(t, filepath.Join(dir, fmt.Sprintf("%d.png", i)), b.Bytes())
		fmt.Fprintf(&manifest, "{\"image\": \"%d.png\", \"instruction\": \"go to %d\", \"action\": [%d, %d], \"episode\": %d}\n", i, i%4, i%5, i%3, i/3)
	}
	writeTo(t, filepath.Join(dir, data.ManifestName), manifest.Bytes())
	return dir
}

func writeTo(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// damage cuts the end off a file.
func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeTo(t, path, b[:len(b)*6/10])
}

func coordinator(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	code = Main(ctx, NewCoordinator(), args, &out, &errOut)
	return code, out.String(), errOut.String()
}

// TestDataCheck guards exit codes, the list of faults and the shapes of JSON.
func TestDataCheck(t *testing.T) {
	t.Parallel()
	dir := pictureFolder(t, 60)
	code, out, errOut := coordinator(t.Context(), "data", "check", dir)
	if code != exitDone || !strings.Contains(out, "all 60 samples are read and decoded, and nothing is wrong") {
		t.Fatalf("%d\n%s%s", code, out, errOut)
	}
	for i := 10; i < 35; i++ {
		damage(t, filepath.Join(dir, fmt.Sprintf("%d.png", i)))
	}
	file := filepath.Join(t.TempDir(), "faults.jsonl")
	code, out, errOut = coordinator(t.Context(), "data", "check", dir, "--out", file)
	if code != exitFailed || strings.Count(out, "picture: ") != inspect.FaultsShown || !strings.Contains(out, "more are counted") || !strings.Contains(out, "picture: sample 10: ") || !strings.Contains(out, `manifest.jsonl:11: image "10.png"`) {
		t.Errorf("%d\n%s", code, out)
	}
	if !strings.Contains(errOut, "25 faults (25 of kind picture)") || !strings.Contains(errOut, "--accept-data-change") {
		t.Error(errOut)
	}
	all, err := os.ReadFile(file)
	if err != nil || bytes.Count(all, []byte("\n")) != 25 {
		t.Errorf("%v\n%s", err, all)
	}
	code, out, _ = coordinator(t.Context(), "data", "check", dir, "--json")
	var events []map[string]any
	for line := range strings.Lines(out) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(line)
		}
		events = append(events, e)
	}
	first, last := events[0], events[len(events)-1]
	if code != exitFailed || len(events) != 27 || first["event"] != "fault" || first["line"] != 11. || first["sample"] != 10. || first["episode"] != 3. || first["frame"] != 1. || first["kind"] != "picture" ||
		last["event"] != "end" || last["faults"] != 25. || last["samples"] != 60. || last["kinds"].(map[string]any)["picture"] != 25. {
		t.Errorf("%d %v %v", code, first, last)
	}
	if events[25]["event"] != "summary" || events[25]["summary"].(map[string]any)["samples"] != 60. {
		t.Error(events[25])
	}
}

// TestDataCommandsHearCtrlC guards that both end with the documented code.
func TestDataCommandsHearCtrlC(t *testing.T) {
	t.Parallel()
	dir := pictureFolder(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, what := range []string{"check", "info"} {
		if code, _, errOut := coordinator(ctx, "data", what, dir); code != exitResume || !strings.Contains(errOut, "stopped by Ctrl-C") {
			t.Errorf("%s: %d %s", what, code, errOut)
		}
	}
}

func TestDataInfo(t *testing.T) {
	t.Parallel()
	dir := pictureFolder(t, 9)
	code, out, errOut := coordinator(t.Context(), "data", "info", dir, "--json")
	var s data.Summary
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != exitDone || s.Kind != "folder" || s.Samples != 9 || s.Episodes != 3 || s.Camera.Looked != 9 ||
		s.Instructions.Different != 4 || len(s.Actions) != 2 || s.Actions[0].Max != 4 {
		t.Errorf("%d %v\n%s%s", code, err, out, errOut)
	}
	for _, c := range [][]string{{"data", "info", dir, "--set", "a=b"}, {"data", "check", dir, "--threads", "0"}, {"data", "check"}} {
		if code, _, errOut := coordinator(t.Context(), c...); code != exitUsage {
			t.Errorf("%v: %d %s", c, code, errOut)
		}
	}
	if code, _, errOut := coordinator(t.Context(), "data", "info", t.TempDir()); code != exitFailed || !strings.Contains(errOut, "manifest.jsonl") {
		t.Errorf("%d %s", code, errOut)
	}
	damage(t, filepath.Join(dir, "4.png"))
	if code, _, errOut = coordinator(t.Context(), "data", "info", dir); code != exitFailed || !strings.Contains(errOut, "4.png") || !strings.Contains(errOut, "data check "+dir) {
		t.Errorf("%d %s", code, errOut)
	}
}
