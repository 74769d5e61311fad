package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// The block that is drawn in place fits a screen, however many workers there
// are: of what has scrolled away no line can be drawn again.
func TestBlockOfManyWorkersFitsAScreen(t *testing.T) {
	var out bytes.Buffer
	v := newView(&out, false, "job", 0, 10)
	for i := range 64 {
		v.members = append(v.members, cluster.Member{Join: cluster.Join{Worker: fmt.Sprintf("w%d", i)}, Rank: i})
	}
	var b bytes.Buffer
	v.block(&b, time.Now())
	if lines := strings.Count(b.String(), "\n"); lines > 24 || lines != v.drawn || !strings.Contains(b.String(), "… and 48 more") {
		t.Errorf("%d lines, %d counted:\n%s", lines, v.drawn, b.String())
	}
}
