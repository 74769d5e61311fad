package netaddr

import (
	"net"
	"testing"
)

func TestReached(t *testing.T) {
	if got := Reached("10.1.2.3"); len(got) != 1 || got[0] != "10.1.2.3" {
		t.Errorf("10.1.2.3 is reached at %v", got)
	}
	for _, all := range []string{"0.0.0.0", "::"} { // what is listened on everywhere is reached somewhere
		got := Reached(all)
		if len(got) == 0 {
			t.Errorf("%s is reached nowhere", all)
		}
		for _, host := range got {
			if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
				t.Errorf("%s is reached at %s, which nobody can dial", all, host)
			}
		}
	}
	for _, here := range []string{"127.0.0.1:9", "nats://127.0.0.1:4222", "127.0.0.1", "tls://127.0.0.1:1,tls://192.0.2.1:1"} {
		if got := Local(here); got != "127.0.0.1" {
			t.Errorf("%s is reached from %s", here, got)
		}
	}
}

func TestPort(t *testing.T) {
	for url, want := range map[string]int{"nats://127.0.0.1:4222": 4222, "tls://[::1]:1": 1, "nats://h": 0, "": 0, "://": 0} {
		if got := Port(url); got != want {
			t.Errorf("%s: %d, want %d", url, got, want)
		}
	}
}
