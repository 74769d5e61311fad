package run

import (
	"fmt"
	"testing"
)

func TestClerk(t *testing.T) {
	c := newClerk()
	var got []int
	hold := make(chan struct{})
	c.do(func() { <-hold })
	for i := range 5 {
		c.do(func() { got = append(got, i) })
	}
	close(hold)
	c.close(t.Context())
	if fmt.Sprint(got) != "[0 1 2 3 4]" {
		t.Errorf("done: %v", got)
	}
}
