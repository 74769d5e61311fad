package view

import (
	"io"
	"math"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/usage"
)

// Log says how a command logs.
type Log struct {
	Format  string // text, json
	Verbose bool   // decisions and timings too
}

// Logger writes to w: one line an event, readable or JSON. A format that is
// none is a usage.Error.
func (l Log) Logger(w io.Writer) (*zap.Logger, error) {
	level := zap.InfoLevel
	if l.Verbose {
		level = zap.DebugLevel
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	var e zapcore.Encoder
	switch l.Format {
	case "json":
		enc.EncodeTime = zapcore.TimeEncoderOfLayout(time.RFC3339Nano)
		e = zapcore.NewJSONEncoder(enc)
	case "text":
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		enc.ConsoleSeparator = " "
		e = zapcore.NewConsoleEncoder(enc)
	default:
		return nil, usage.Errorf("--log-format %q: want text or json", l.Format)
	}
	return zap.New(&lineCore{zapcore.NewCore(e, zapcore.Lock(zapcore.AddSync(w)), level)}), nil
}

// lineCore writes one line an event, whatever an error's text has in it:
// errors that come together are joined by line breaks.
type lineCore struct{ zapcore.Core }

func (c *lineCore) With(f []zapcore.Field) zapcore.Core { return &lineCore{c.Core.With(f)} }

func (c *lineCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *lineCore) Write(e zapcore.Entry, f []zapcore.Field) error {
	e.Message = oneLine(e.Message)
	return c.Core.Write(e, f)
}

// oneLine has the lines of s in one, of printable text: errors name files and
// members that others have named.
func oneLine(s string) string { return plain.Line(s, math.MaxInt) }
