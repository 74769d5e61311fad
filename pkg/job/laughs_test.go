package job_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A job file of a kilobyte whose aliases stand for billions of words is refused in
// moments.
func TestBillionLaughs(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n")
	for i := range 12 {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i, i, i, i, i, i)
	}
	b.WriteString("name: *a12\n")
	began := time.Now()
	_, err := kinds.Parse("laughs.yaml", []byte(b.String()), nil)
	if err == nil {
		t.Fatal("it was read")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(err.Error()) > 10_000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}
