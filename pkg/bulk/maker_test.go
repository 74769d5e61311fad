package bulk

import (
	"context"
	"fmt"
	"testing"
)

func TestMakerKeepsWithinItsLimit(t *testing.T) {
	const one = madeOverhead + 1 // what a name of one letter takes beside its data
	k := newMaker(context.Background(), 100+2*one, 2)
	calls := map[string]int{}
	get := func(name string, size int) {
		t.Helper()
		data, _, err := k.get(context.Background(), name, func(context.Context, string) ([]byte, error) {
			calls[name]++
			return make([]byte, size), nil
		})
		k.wait()
		if err != nil || len(data) != size {
			t.Fatalf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	get("a", 40)
	get("b", 40)
	get("a", 40)
	get("c", 40) // drops b, which is the longest unused
	get("a", 40)
	get("c", 40)
	get("b", 40) // again; drops a
	if fmt.Sprint(calls) != "map[a:1 b:2 c:1]" || k.bytes != 80+2*one || len(k.all) != 2 || k.order.Len() != 2 {
		t.Errorf("made %v; kept %d bytes of %d", calls, k.bytes, len(k.all))
	}
	get("huge", 1000) // stays until the next
	get("huge", 1000)
	if calls["huge"] != 1 || len(k.all) != 1 || k.bytes != 1000+one+3 {
		t.Errorf("made %v; kept %d bytes of %d", calls, k.bytes, len(k.all))
	}
	get("d", 1)
	if len(k.all) != 1 || k.bytes != 1+one {
		t.Errorf("kept %d bytes of %d", k.bytes, len(k.all))
	}
}
