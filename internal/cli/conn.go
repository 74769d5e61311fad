package cli

import (
	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/access"
	"github.com/vlaring/vlaring/pkg/transport"
)

const tokenEnv = access.SecretEnv

// childEnv marks a worker process that a coordinator started. Where the server is
// that coordinator's own it names the file that says where it is now.
const (
	childEnv      = "VLARING_CHILD"
	childOfServer = "1"
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
	fl.StringVar(&f.tokenFile, "token-file", "", "file with the token or a key (coordinator keys makes them; or the environment's "+tokenEnv+")")
	fl.StringVar(&f.user, "user", "", "NATS user name; its password is taken as the token is")
	fl.StringVar(&f.creds, "creds", "", "NATS credentials file (operator mode)")
	fl.StringVar(&f.tlsCA, "tls-ca", "", "CA certificate file that the other side's certificate must come from")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "own certificate file")
	fl.StringVar(&f.tlsKey, "tls-key", "", "own key file")
	fl.StringVar(&f.tlsName, "tls-server-name", "", "DNS name that the server's certificate must have, where it has not the host of --nats")
}

// credentials reads the secrets. warn is told of a file that others can read.
func (f *connFlags) credentials(warn func(text string)) (transport.Credentials, error) {
	return access.Options{URL: f.url, TokenFile: f.tokenFile, Creds: f.creds, User: f.user,
		TLS: transport.TLSFiles{CA: f.tlsCA, Cert: f.tlsCert, Key: f.tlsKey, Name: f.tlsName}}.Credentials(warn)
}
