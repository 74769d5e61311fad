package transport_test

import (
	"errors"
	"testing"

	"github.com/vlaring/vlaring/pkg/transport"
	"github.com/vlaring/vlaring/pkg/transport/transporttest"
)

func TestMemoryConforms(t *testing.T) {
	transporttest.Run(t, func(*testing.T) transport.Kind { return transport.NewMemory() })
}

func TestNATSConforms(t *testing.T) {
	transporttest.Run(t, func(*testing.T) transport.Kind { return transport.NATS{} })
}

func TestCheck(t *testing.T) {
	for url, ok := range map[string]bool{"nats://h:4222": true, "tls://h": true, "nats://a,nats://b": true, "http://h": false, "": false} {
		if err := (transport.NATS{}).Check(url); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
	if err := (transport.NATS{}).Check("nats://token@h:4222"); !errors.Is(err, transport.ErrSecrets) {
		t.Errorf("a URL with a token: %v", err)
	}
}
