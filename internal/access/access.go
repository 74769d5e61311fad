// Package access is how a command proves who it is to a job's server: from what was
// typed, and files that hold secrets, to credentials; and how the files are made.
package access

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/transport"
)

// SecretEnv holds a token, a key or a password where no file of one is given.
const SecretEnv = "VLARING_TOKEN"

// Options are what was typed. No secret is among them: arguments can be read by
// every user of a machine.
type Options struct {
	URL       string
	TokenFile string // a token or a key, or a user's password
	Creds     string
	User      string
	TLS       transport.TLSFiles
}

// Credentials reads the secrets. warn is told of a file that others can read.
func (o Options) Credentials(warn func(text string)) (transport.Credentials, error) {
	if o.URL != "" {
		switch err := transport.Of(o.URL).Check(o.URL); {
		case errors.Is(err, transport.ErrSecrets):
			return transport.Credentials{}, usage.Errorf("--nats has a secret in it, which every user of this machine can read: give it by --token-file, --user or --creds")
		case err != nil:
			return transport.Credentials{}, usage.Errorf("--nats: %w", err)
		}
	}
	c := transport.Credentials{CredsFile: o.Creds, TLS: o.TLS}
	if (o.TLS.Cert == "") != (o.TLS.Key == "") {
		return c, usage.Errorf("--tls-cert and --tls-key go together")
	}
	guarded(o.TLS.Key, "key", "pass for this machine", warn)
	guarded(o.Creds, "credentials", "join the job", warn)
	secret, where := os.Getenv(SecretEnv), "the environment's "+SecretEnv
	if o.TokenFile != "" {
		var err error
		if secret, err = Secret("token", "stop the job", o.TokenFile, warn); err != nil {
			return c, err
		}
		where, c.Revoked = "--token-file "+o.TokenFile, filepath.Join(filepath.Dir(o.TokenFile), revokedName)
	}
	switch {
	case o.User != "" && secret == "":
		return c, usage.Errorf("--user %s wants a password, by --token-file or the environment's %s", o.User, SecretEnv)
	case o.User != "":
		c.User, c.Password = o.User, secret
	case transport.IsKey(secret):
		k, err := transport.ParseKey(secret)
		if err != nil {
			return c, usage.Errorf("%s: this key cannot be read: %w: have another one made (coordinator keys)", where, err)
		}
		c.Key = &k
	default:
		c.Token = secret
	}
	return c, nil
}

// Secret reads the file that --WHAT-file names; use is what others could do with it.
func Secret(what, use, path string, warn func(text string)) (string, error) {
	b, err := regular.Read(path, 1<<16)
	if err != nil {
		return "", usage.Errorf("--%s-file: %w", what, err)
	}
	guarded(path, what, use, warn)
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", usage.Errorf("--%s-file %s is empty", what, path)
	}
	return secret, nil
}

// guarded tells of a file with a secret that every user can read.
func guarded(path, what, use string, warn func(text string)) {
	if path == "" {
		return
	}
	if i, err := os.Stat(path); err == nil && i.Mode().IsRegular() && i.Mode().Perm()&0o004 != 0 {
		warn(fmt.Sprintf("every user of this machine can read the %s in %s (mode %04o), and may %s with it: chmod 600 %s", what, path, i.Mode().Perm(), use, plain.ShellWord(path)))
	}
}
