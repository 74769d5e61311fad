package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/usage"
)

// Whatever has been logged is one line: errors that come together, names with
// control characters.
func TestLogger(t *testing.T) {
	var b bytes.Buffer
	say := func(l Log) string {
		t.Helper()
		b.Reset()
		log, err := l.Logger(&b)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("a decision")
		log.With(zap.Int("rank", 1)).Error("two\nlines\x1b[2J", zap.Error(errors.Join(errors.New("one"), errors.New("another"))))
		return b.String()
	}
	if got := say(Log{Format: "text"}); !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3} ERROR two; lines�\[2J .*"rank": 1.*\n$`).MatchString(got) || strings.Count(got, "\n") != 1 {
		t.Errorf("text: %q", got)
	}
	var e map[string]any
	if got := say(Log{Format: "json"}); json.Unmarshal([]byte(got), &e) != nil || e["msg"] != "two; lines�[2J" || e["rank"] != 1.0 || strings.Count(got, "\n") != 1 {
		t.Errorf("JSON: %q", got)
	}
	if got := say(Log{Format: "text", Verbose: true}); strings.Count(got, "\n") != 2 || !strings.Contains(got, "DEBUG a decision") {
		t.Errorf("verbose: %q", got)
	}
	var misuse usage.Error
	if _, err := (Log{Format: "xml"}).Logger(&b); !errors.As(err, &misuse) || err.Error() != `--log-format "xml": want text or json` {
		t.Errorf("got %v", err)
	}
}
