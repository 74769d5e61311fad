package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/transport"
)

// tokenEnv holds the broker's token where no --token-file is given.
const tokenEnv = "VLARING_TOKEN"

// childEnv marks a worker process that a coordinator started, and says whose
// the server is: what else has taken the port of a broker of ours must not be
// shown the token.
const (
	childEnv      = "VLARING_CHILD"
	childOfServer = "1"
	childOfBroker = "broker"
)

// connFlags say how to reach a NATS server and how to prove who one is.
type connFlags struct {
	url       string
	tokenFile string
	creds     string
	user      string
	tlsCA     string
	tlsCert   string
	tlsKey    string
	tlsName   string
}

func (f *connFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.url, "nats", "", "URL of the NATS server, e.g. nats://host:4222 or tls://host:4222; of a cluster several, separated by commas")
	fl.StringVar(&f.tokenFile, "token-file", "", "file with the server's token (or the environment's "+tokenEnv+")")
	fl.StringVar(&f.user, "user", "", "NATS user name; its password is taken as the token is")
	fl.StringVar(&f.creds, "creds", "", "NATS credentials file (operator mode)")
	fl.StringVar(&f.tlsCA, "tls-ca", "", "CA certificate file that the other side's certificate must come from")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "own certificate file")
	fl.StringVar(&f.tlsKey, "tls-key", "", "own key file")
	fl.StringVar(&f.tlsName, "tls-server-name", "", "DNS name that the server's certificate must have, where it has not the host of --nats")
}

// credentials reads the secrets. None of them is taken from a flag: arguments
// can be read by every user of a machine. warn is told of a file that others
// can read.
func (f *connFlags) credentials(warn func(text string)) (transport.Credentials, error) {
	if f.url != "" {
		switch err := transport.Of(f.url).Check(f.url); {
		case errors.Is(err, transport.ErrSecrets):
			return transport.Credentials{}, usagef("--nats has a secret in it, which every user of this machine can read: give it by --token-file, --user or --creds")
		case err != nil:
			return transport.Credentials{}, usagef("--nats: %w", err)
		}
	}
	c := transport.Credentials{CredsFile: f.creds, TLS: transport.TLSFiles{CA: f.tlsCA, Cert: f.tlsCert, Key: f.tlsKey, Name: f.tlsName}, Prove: os.Getenv(childEnv) == childOfBroker}
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return c, usagef("--tls-cert and --tls-key go together")
	}
	secret := os.Getenv(tokenEnv)
	if f.tokenFile != "" {
		var err error
		if secret, err = secretOf("token", "stop the job", f.tokenFile, warn); err != nil {
			return c, err
		}
	}
	if f.user != "" {
		if secret == "" {
			return c, usagef("--user %s wants a password, by --token-file or the environment's %s", f.user, tokenEnv)
		}
		c.User, c.Password = f.user, secret
	} else {
		c.Token = secret
	}
	return c, nil
}

// secretOf reads the file that --WHAT-file names; use is what others could do with it.
func secretOf(what, use, path string, warn func(text string)) (string, error) {
	b, err := regular.Read(path, 1<<16)
	if err != nil {
		return "", usagef("--%s-file: %w", what, err)
	}
	if i, err := os.Stat(path); err == nil && i.Mode().IsRegular() && i.Mode().Perm()&0o004 != 0 {
		warn(fmt.Sprintf("every user of this machine can read the %s in %s (mode %04o), and may %s with it: chmod 600 %s", what, path, i.Mode().Perm(), use, plain.ShellWord(path)))
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", usagef("--%s-file %s is empty", what, path)
	}
	return secret, nil
}

func withoutEnv(env []string, names ...string) []string {
	var out []string
next:
	for _, e := range env {
		for _, n := range names {
			if strings.HasPrefix(e, n+"=") {
				continue next
			}
		}
		out = append(out, e)
	}
	return out
}
