package cli

import (
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vlaring/vlaring/internal/plain"
)

// logFlags are the flags of every command that logs.
type logFlags struct {
	format  string
	verbose bool
}

func (l *logFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&l.format, "log-format", "text", "text or json, on standard error")
	c.Flags().BoolVarP(&l.verbose, "verbose", "v", false, "log decisions and timings too")
}

// logger writes to w: one line an event, readable or JSON.
func (l *logFlags) logger(w io.Writer) (*zap.Logger, error) {
	level := zap.InfoLevel
	if l.verbose {
		level = zap.DebugLevel
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	var e zapcore.Encoder
	switch l.format {
	case "json":
		enc.EncodeTime = zapcore.TimeEncoderOfLayout(time.RFC3339Nano)
		e = zapcore.NewJSONEncoder(enc)
	case "text":
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		enc.ConsoleSeparator = " "
		e = zapcore.NewConsoleEncoder(enc)
	default:
		return nil, usagef("--log-format %q: want text or json", l.format)
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
