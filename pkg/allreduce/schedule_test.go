package allreduce

import (
	"fmt"
	"testing"
)

// All ranks' moves, executed in one loop with queues for links, must leave the
// naive fold everywhere, receive exactly what is sent, and never wait in a circle.
func TestScheduleIsTheNaiveFold(t *testing.T) {
	for world := 1; world <= 16; world++ {
		for _, elements := range []int{0, 1, 2, 7, 13, 64, 97} {
			for _, chunk := range []int{1, 3, 16, 97, 1000} {
				t.Run(fmt.Sprintf("world %d, %d elements, chunks of %d", world, elements, chunk), func(t *testing.T) {
					runSchedule(t, world, elements, chunk)
				})
			}
		}
	}
}

func runSchedule(t *testing.T, world, elements, chunk int) {
	grad := func(rank, i int) float32 { return float32(1+rank) * 1.1 / float32(1+i+rank*rank) }
	want := make([]float32, elements)
	for i := range want {
		want[i] = grad(0, i)
		for r := 1; r < world; r++ {
			want[i] += grad(r, i)
		}
	}
	type link struct {
		from, to int
		pass     Pass
	}
	type packet struct {
		chunk int
		data  []float32
	}
	queues := map[link][]packet{}
	out := make([][]float32, world)
	moves := make([][2][]Move, world)
	for r := range out {
		out[r] = make([]float32, elements)
		moves[r][Reduce], moves[r][Broadcast] = Schedule(r, world, elements, chunk)
	}
	reduced := make([]int, world)
	for progress := true; progress; {
		progress = false
		for r := range out {
			for pass := Reduce; pass < passes; pass++ {
				if len(moves[r][pass]) == 0 {
					continue
				}
				m := moves[r][pass][0]
				var in []float32
				if m.From >= 0 {
					q := queues[link{m.From, r, pass}]
					if len(q) == 0 {
						continue
					}
					if q[0].chunk != m.Chunk || len(q[0].data) != m.Hi-m.Lo {
						t.Fatalf("rank %d expects chunk %d in %s and gets %d", r, m.Chunk, pass, q[0].chunk)
					}
					in = q[0].data
					queues[link{m.From, r, pass}] = q[1:]
				} else if pass == Broadcast && reduced[r] <= m.Chunk {
					continue // the last rank has not made this total yet
				}
				mine := out[r][m.Lo:m.Hi]
				for i := range mine {
					switch {
					case pass == Broadcast && in != nil:
						mine[i] = in[i]
					case pass == Reduce && in != nil:
						mine[i] = in[i] + grad(r, m.Lo+i)
					case pass == Reduce:
						mine[i] = grad(r, m.Lo+i)
					}
				}
				if pass == Reduce {
					reduced[r]++
				}
				if m.To >= 0 {
					l := link{r, m.To, pass}
					queues[l] = append(queues[l], packet{m.Chunk, append([]float32(nil), mine...)})
				}
				moves[r][pass] = moves[r][pass][1:]
				progress = true
			}
		}
	}
	for r := range out {
		for pass, left := range moves[r] {
			if len(left) > 0 {
				t.Fatalf("rank %d waits for ever in %s", r, Pass(pass))
			}
		}
		for i := range want {
			if out[r][i] != want[i] {
				t.Fatalf("rank %d, element %d: %v, want %v", r, i, out[r][i], want[i])
			}
		}
	}
	for l, q := range queues {
		if len(q) > 0 {
			t.Errorf("%d chunks were sent from %d to %d in %s and not received", len(q), l.from, l.to, l.pass)
		}
	}
}
