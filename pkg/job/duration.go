package job

import (
	"fmt"
	"time"
)

// Duration is a time.Duration that is written "200ms" in YAML.
type Duration time.Duration

// String is the form of the job file.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalYAML writes the form of the job file.
func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

func parseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("want a duration such as 200ms, 1s or 2m, found %q", s)
	}
	return Duration(d), nil
}
