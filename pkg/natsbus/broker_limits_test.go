package natsbus

import (
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/allreduce"
)

// A member has as many connections as the table of limits says, by which the
// embedded server has room for the most members there can be, for the coordinator
// and for commands; and the frames of the longest chunk go through it.
func TestBrokerHasRoomForTheMostMembers(t *testing.T) {
	b := startBroker(t, BrokerOptions{})
	c := connect(t, b, "job", "w0")
	n, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for end := time.Now().Add(patience); b.Clients() != limits.Connections; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a member has %d connections, the table says %d", b.Clients(), limits.Connections)
		}
	}
	if room := brokerMaxConns - limits.Connections*(limits.Workers+1); room < limits.Asking {
		t.Errorf("beside the most members there is room for %d connections, want %d", room, limits.Asking)
	}
	if limits.Chunk != allreduce.MaxPayload || brokerMaxPayload < allreduce.MaxFrame || brokerMaxPayload < limits.Message {
		t.Errorf("a chunk of %d bytes, frames of %d and messages of %d do not all go through a server of %d", limits.Chunk, allreduce.MaxFrame, limits.Message, brokerMaxPayload)
	}
}
