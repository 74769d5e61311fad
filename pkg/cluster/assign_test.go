package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		micro, world int
		want         []int
	}{
		{8, 1, []int{0, 8}},
		{8, 2, []int{0, 4, 8}},
		{8, 3, []int{0, 3, 6, 8}},
		{2, 4, []int{0, 1, 2, 2, 2}},
		{1, 1, []int{0, 1}},
	} {
		if got := evenBounds(c.micro, c.world); !slices.Equal(got, c.want) {
			t.Errorf("evenBounds(%d, %d) = %v, want %v", c.micro, c.world, got, c.want)
		}
	}
	for micro := range 40 {
		for world := 1; world < 20; world++ {
			b := evenBounds(micro, world)
			for r := range world {
				n := b[r+1] - b[r]
				if n != micro/world && n != micro/world+1 || r > 0 && n > b[r]-b[r-1] {
					t.Fatalf("evenBounds(%d, %d) = %v: want lengths that differ by one, the longer first", micro, world, b)
				}
			}
		}
	}
}

// Shares are contiguous and complete, none is off its exact share by one or
// more, and a weight of 0 gets nothing.
func TestShares(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		micro, w := r.IntN(100), make([]float64, 1+r.IntN(12))
		sum := 0.0
		for i := range w {
			switch r.IntN(4) {
			case 0: // none
			case 1:
				w[i] = 1
			case 2:
				w[i] = math.Exp(40 * (r.Float64() - 0.5))
			case 3:
				w[i] = 1 / minPace * r.Float64()
			}
			sum += w[i]
		}
		if sum == 0 {
			w[0], sum = 1, 1
		}
		b := weightedBounds(micro, w)
		if len(b) != len(w)+1 || b[0] != 0 || b[len(w)] != micro {
			t.Fatalf("weightedBounds(%d, %v) = %v: not complete", micro, w, b)
		}
		for i := range w {
			n, exact := b[i+1]-b[i], float64(micro)*w[i]/sum
			if n < 0 || w[i] == 0 && n != 0 || math.Abs(float64(n)-exact) >= 1+1e-6 {
				t.Fatalf("weightedBounds(%d, %v) = %v: rank %d gets %d of an exact share of %v", micro, w, b, i, n, exact)
			}
		}
	}
}

// Whatever is lost and whoever comes, the places are contiguous and complete,
// nobody has two, survivors keep their order and at least the micro-batches
// they had, and a newcomer takes a lost place before it gets a new one.
func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		micro, world := 1+r.IntN(30), 1+r.IntN(8)
		b := evenBounds(micro, world)
		var old []place
		dead := map[string]bool{}
		lost := 0 // places with micro-batches
		for i := range world {
			p := place{fmt.Sprintf("w%d", i), b[i], b[i+1]}
			old = append(old, p)
			if r.IntN(3) == 0 {
				dead[p.Worker] = true
				if p.Hi > p.Lo {
					lost++
				}
			}
		}
		var fresh []string
		for i := range r.IntN(4) {
			fresh = append(fresh, fmt.Sprintf("new%d", i))
		}
		got := arrange(old, func(id string) bool { return !dead[id] }, fresh)
		say := fmt.Sprintf("arrange(%v, dead %v, fresh %v) = %v", old, dead, fresh, got)
		if len(got) == 0 {
			if len(dead) < world || len(fresh) > 0 {
				t.Fatalf("%s: somebody is left", say)
			}
			continue
		}
		at := 0
		seen := map[string]int{}
		for i, p := range got {
			if _, twice := seen[p.Worker]; twice || dead[p.Worker] {
				t.Fatalf("%s: %s is dead or has two places", say, p.Worker)
			}
			seen[p.Worker] = i
			if p.Lo != at || p.Hi < p.Lo {
				t.Fatalf("%s: a gap before %s", say, p.Worker)
			}
			at = p.Hi
		}
		if want := world - len(dead) + len(fresh); len(got) != want {
			t.Fatalf("%s: want %d places", say, want)
		}
		if at != micro {
			t.Fatalf("%s: ends at %d of %d", say, at, micro)
		}
		last := -1
		for _, p := range old {
			if dead[p.Worker] {
				continue
			}
			i := seen[p.Worker]
			if i < last || p.Hi > p.Lo && (got[i].Lo > p.Lo || got[i].Hi < p.Hi) {
				t.Fatalf("%s: %s had %v", say, p.Worker, p)
			}
			last = i
		}
		for i, id := range fresh {
			p := got[seen[id]]
			if took := p.Hi > p.Lo; took != (i < lost) {
				t.Fatalf("%s: %d places were lost, newcomer %d has %v", say, lost, i, p)
			}
		}
	}
}

func TestOrderByExample(t *testing.T) {
	old := []place{{"a", 0, 4}, {"b", 4, 8}, {"c", 8, 12}, {"d", 12, 16}}
	for _, c := range []struct {
		dead  string
		fresh []string
		want  []place
	}{
		{"", nil, old},
		{"bc", []string{"e"}, []place{{"a", 0, 4}, {"e", 4, 10}, {"d", 10, 16}}},
		{"a", nil, []place{{"b", 0, 8}, {"c", 8, 12}, {"d", 12, 16}}},
		{"d", nil, []place{{"a", 0, 4}, {"b", 4, 8}, {"c", 8, 16}}},
		{"bc", nil, []place{{"a", 0, 8}, {"d", 8, 16}}},
		{"abcd", []string{"e"}, []place{{"e", 0, 16}}},
		{"", []string{"e"}, append(slices.Clone(old), place{"e", 16, 16})},
	} {
		alive := func(id string) bool { return !slices.Contains([]byte(c.dead), id[0]) }
		if got := arrange(old, alive, c.fresh); !slices.Equal(got, c.want) {
			t.Errorf("without %q, with %v: %v, want %v", c.dead, c.fresh, got, c.want)
		}
	}
}

// Where gradients are verified two ranks have micro-batches, if there are two of both.
func TestTwoOwn(t *testing.T) {
	for _, c := range []struct {
		bounds []int
		active int
		want   []int
	}{
		{[]int{0, 8}, 1, []int{0, 8}},
		{[]int{0, 8, 8, 8}, 3, []int{0, 4, 8, 8}},
		{[]int{0, 0, 7, 7}, 3, []int{0, 0, 4, 7}},
		{[]int{0, 0, 0, 7}, 3, []int{0, 0, 4, 7}},
		{[]int{0, 0, 7, 7}, 2, []int{0, 4, 7, 7}},
		{[]int{0, 7, 7, 7}, 1, []int{0, 7, 7, 7}}, // spares have none
		{[]int{0, 1, 1}, 2, []int{0, 1, 1}},
		{[]int{0, 7, 8, 8}, 3, []int{0, 7, 8, 8}},
	} {
		given := slices.Clone(c.bounds)
		if got := twoOwn(c.bounds, c.active); !slices.Equal(got, c.want) || !slices.Equal(given, c.bounds) {
			t.Errorf("twoOwn(%v, %d) = %v, want %v", given, c.active, got, c.want)
		}
	}
}
