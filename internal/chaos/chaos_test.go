package chaos

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/natsbus"
)

// A broker whose port somebody else has taken is an error that names the port.
func TestChaosBrokerThatDoesNotComeBack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	b, err := comeBack(context.Background(), port, "t", 200*time.Millisecond)
	if b != nil || err == nil || !strings.Contains(err.Error(), "does not come back at its port "+strconv.Itoa(port)) {
		t.Fatalf("got %v, %v", b, err)
	}
	time.AfterFunc(300*time.Millisecond, func() { l.Close() })
	if b, err = comeBack(context.Background(), port, "t", time.Minute); err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown()
	c, err := natsbus.Connect(context.Background(), b.URL(), natsbus.Credentials{Token: "t"}, natsbus.ConnOptions{Job: "j", Member: "m"})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
