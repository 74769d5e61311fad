package run

import "testing"

// The command for workers elsewhere has its words quoted as a shell wants them.
func TestJoinHint(t *testing.T) {
	hint := joinHint("--nats nats://h:1", "j", "my run/token", true, "")
	if want := "worker --nats nats://h:1 --job j --token-file 'my run/token' --tls-ca CA.pem"; hint != want {
		t.Errorf("the join hint is %s, want %s", hint, want)
	}
}
