package cli

import (
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
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
	return zap.New(zapcore.NewCore(e, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}
