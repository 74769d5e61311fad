package s3url

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]URL{
		"s3://models":             {Bucket: "models"},
		"s3://models/":            {Bucket: "models"},
		"s3://models/runs/bridge": {Bucket: "models", Prefix: "runs/bridge"},
		"s3://models/runs/a b/":   {Bucket: "models", Prefix: "runs/a b"},
		"s3://m.x-1/p?endpoint=http://127.0.0.1:7070&region=eu-central-1&style=path": {"m.x-1", "p", "http://127.0.0.1:7070", "eu-central-1", "path"},
	} {
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s, which reads as %+v, %v", in, got, again, err)
		}
	}
}

// What cannot be an address is refused with what to write instead, and no message
// shows what may be a secret.
func TestRefused(t *testing.T) {
	for in, say := range map[string]string{
		"s3:/bucket/p":                      "want s3://BUCKET/PREFIX",
		"S3://bucket/p":                     "want s3://BUCKET/PREFIX",
		"s3://":                             "names no bucket",
		"s3:///p":                           "names no bucket",
		"s3://Bucket/p":                     "cannot be a bucket",
		"s3://..":                           "cannot be a bucket",
		"s3://b/p":                          "cannot be a bucket",
		"s3://bucket/../x":                  "cannot be a prefix",
		"s3://bucket/a//b":                  "cannot be a prefix",
		"s3://bucket//a":                    "cannot be a prefix",
		"s3://bucket/a\\b":                  "cannot be a prefix",
		"s3://AKIA:hunter2@bucket/p":        "holds no credentials",
		"s3://bucket/p?secret=hunter2":      `unknown option "secret"`,
		"s3://bucket/p?endpoint=host:90":    "want http://HOST:PORT",
		"s3://bucket/p?endpoint=http://h/p": "want no path",
		"s3://bucket/p?endpoint=http://AKIA:hunter2@h": "holds no credentials",
		"s3://bucket/p?style=odd":                      "want path or virtual",
		"s3://bucket/p?region=a&region=b":              "is given 2 times",
	} {
		_, err := Parse(in)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v, want %q", in, err, say)
		} else if strings.Contains(err.Error(), "hunter2") && strings.Contains(in, "@") {
			t.Errorf("%s: the message shows the secret: %v", in, err)
		}
	}
}

func TestPlain(t *testing.T) {
	for key, want := range map[string]bool{"a": true, "meta/info.json": true, "..": false, "../a": false, "a/../b": false, "/a": false, "a/": false, "a//b": false,
		`a\..\b`: false, "a\x00b": false, "a\nb": false, "a\x1b[2J": false, "…/é": true, "\xff": false, strings.Repeat("a", 256): false} {
		if Plain(key) != want {
			t.Errorf("%q: %v", key, !want)
		}
	}
}
