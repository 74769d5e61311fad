package natsbus

import (
	"strings"
	"testing"
	"time"
)

// An answer to what the broker before this one passed on, which nats.go kept for the time after
// it: nobody waits for it any more, and it is no reason to end. Another rank's subject is.
func TestLateAnswer(t *testing.T) {
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j"})
	c, err := as(t, broker.URL(), keyOf(t, "secret", RoleWorker, "w0", time.Time{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.control.Publish("vlaring.j.inbox.coordinator.before.1", []byte("yes")); err != nil {
		t.Fatal(err)
	}
	if err := c.control.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	// The complaint is handled before that of what follows.
	if err := c.control.Publish("vlaring.j.from.w1", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Broken():
	case <-time.After(patience):
		t.Fatal("it may speak as another worker")
	}
	if err := c.Err(); !strings.Contains(err.Error(), `"vlaring.j.from.w1"`) {
		t.Errorf("it ended for an answer that came late: %v", err)
	}
}
