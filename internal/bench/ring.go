package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/allreduce"
)

// RingRow is the all-reduce of one size over one road.
type RingRow struct {
	Road     string  `json:"road"`               // shm, nats, direct, memory
	Topology string  `json:"topology,omitempty"` // of nats: broker, mesh
	Reduce   string  `json:"reduce"`             // exact, fast
	Wire     string  `json:"wire"`               // float32, bf16
	Ranks    int     `json:"ranks"`
	Micros   int     `json:"micro_gradients"` // of each rank
	Bytes    int     `json:"bytes"`
	Chunk    int     `json:"chunk_bytes"`
	Runs     int     `json:"runs"`
	MS       float64 `json:"ms"`                     // median over the rounds, of the slowest rank
	Rate     float64 `json:"alg_gb_s"`               // bytes by the time
	CPU      float64 `json:"cpu_s"`                  // of one all-reduce, all ranks and the broker; 0: it cannot be told
	Broker   float64 `json:"broker_cpu_s,omitempty"` // the part of that of the one broker, or of the mesh's that no rank has
	PerGB    float64 `json:"cpu_s_per_gb,omitempty"`
	PerSent  float64 `json:"cpu_s_per_gb_sent,omitempty"` // of the 2(N-1)·bytes that a ring sends
	Repeats  uint64  `json:"repeated_frames"`             // sent again
	Vain     uint64  `json:"spurious_frames"`             // that came twice: one of them was sent for nothing
}

// sends says whether ranks send each other bytes of the gradient, as processes.
func (b *RingRow) sends() bool { return b.Road == "nats" || b.Road == "direct" }

type RingReport struct {
	Host
	Rows []RingRow `json:"rows"`
}

// LargeRing is the size from which CPU time is of the bytes and not of the messages.
const LargeRing = 1 << 20

// RingOptions choose what Ring measures: every combination of the lists.
type RingOptions struct {
	Roads      []string // shm, nats, direct, memory
	Topologies []string // of nats: broker, mesh
	Reduces    []string // exact, fast
	Wires      []string // float32, bf16; bf16 with fast alone, and where bytes are sent
	Ranks      []int
	Sizes      []string // of the gradient, as parseBytes reads them
	Chunks     []int    // bytes of a message's payload
	Window     int      // bytes in flight on a link
	Bucket     int      // bytes that are reduced as one; 0: as fits the gradient
	Micros     int      // micro-gradients of each rank
	Budget     time.Duration
	Through    string // command that runs a rank, {} being its number; empty: none
	Listen     string // address on which the broker is reached by ranks elsewhere; empty: 127.0.0.1

	bytes []int // Sizes, once they are checked
}

// check refuses what cannot be measured, and reads the sizes.
func (f *RingOptions) check() error {
	oneOf := func(flag string, l []string, of ...string) error {
		for _, v := range l {
			if !strings.Contains(" "+strings.Join(of, " ")+" ", " "+v+" ") || v == "" {
				return usage.Errorf("--%s %q: want %s", flag, v, strings.Join(of, ", "))
			}
		}
		if len(l) == 0 {
			return usage.Errorf("--%s: want %s", flag, strings.Join(of, ", "))
		}
		return nil
	}
	if err := oneOf("road", f.Roads, "shm", "nats", "direct", "memory"); err != nil {
		return err
	}
	if err := oneOf("topology", f.Topologies, "broker", "mesh"); err != nil {
		return err
	}
	if err := oneOf("reduce", f.Reduces, "exact", "fast"); err != nil {
		return err
	}
	if err := oneOf("wire", f.Wires, "float32", "bf16"); err != nil {
		return err
	}
	if err := usage.Within("micro-gradients", f.Micros, 1, 256); err != nil {
		return err
	}
	bf16 := slices.Contains(f.Wires, "bf16")
	if bf16 && !slices.Contains(f.Reduces, "fast") {
		return usage.Errorf("--wire bf16 rounds sums on their way, as a job may with cluster.reduce fast alone: give --reduce fast too")
	}
	for _, n := range f.Ranks {
		if err := usage.Within("ranks", n, 1, 1024); err != nil {
			return err
		}
		if bf16 && n*f.Micros > exactBF16 {
			return usage.Errorf("--wire bf16 with %d ranks of %d micro-gradients: want at most %d in all, of which every sum can be checked", n, f.Micros, exactBF16)
		}
	}
	f.bytes = nil
	for _, s := range f.Sizes {
		n, err := parseBytes(s)
		if err != nil || n < 4 || n > 4<<30 || n%4 != 0 {
			return usage.Errorf("--bytes %s: want a multiple of 4, up to 4GiB, as 4KiB, 128MiB or a plain number of bytes", s)
		}
		f.bytes = append(f.bytes, n)
	}
	if len(f.Ranks) == 0 || len(f.bytes) == 0 || len(f.Chunks) == 0 {
		return usage.Errorf("nothing to measure: --ranks, --bytes and --chunk-bytes want a value each")
	}
	for _, n := range f.Chunks {
		if err := usage.Within("chunk-bytes", n, 4, allreduce.MaxPayload); err != nil {
			return err
		}
		if n%4 != 0 {
			return usage.Errorf("--chunk-bytes %d: want a multiple of 4", n)
		}
		if err := usage.Within("window-bytes", f.Window, 2*n, 1<<30); err != nil {
			return err
		}
	}
	if err := usage.Within("bucket-bytes", f.Bucket, 0, 4<<30); err != nil {
		return err
	}
	if f.Bucket%4 != 0 {
		return usage.Errorf("--bucket-bytes %d: want a multiple of 4", f.Bucket)
	}
	if f.Budget < 0 {
		return usage.Errorf("--budget %v: want a duration of at least 0s", f.Budget)
	}
	if f.Through != "" && !strings.Contains(f.Through, "{}") {
		return usage.Errorf("--through %q: want {} in it, which stands for the rank's number", f.Through)
	}
	return nil
}

// parseBytes reads 4096, 4KiB, 128MiB or 1GiB.
func parseBytes(s string) (int, error) {
	number, shift := s, 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			number, shift = n, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 40)
	if err != nil || n > math.MaxInt>>shift {
		return 0, fmt.Errorf("%q is no size", s)
	}
	return int(n) << shift, nil
}

// combinations are the rows to be measured, without their sizes.
func (f *RingOptions) combinations() (l []RingRow) {
	for _, road := range f.Roads {
		topologies, wires := []string{""}, f.Wires
		switch road {
		case "nats":
			topologies = f.Topologies
		case "shm": // nothing is sent
			wires = []string{"float32"}
		}
		for _, topology := range topologies {
			for _, reduce := range f.Reduces {
				for _, wire := range wires {
					if wire == "bf16" && reduce != "fast" {
						continue
					}
					for _, ranks := range f.Ranks {
						for _, chunk := range f.Chunks {
							l = append(l, RingRow{Road: road, Topology: topology, Reduce: reduce, Wire: wire, Ranks: ranks, Micros: f.Micros, Chunk: chunk})
						}
					}
				}
			}
		}
	}
	return l
}

// Ring times every row, the ranks of each road being started anew. What it
// refuses of its options is a usage.Error.
func Ring(ctx context.Context, f RingOptions) (*RingReport, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	r := &RingReport{Host: newHost()}
	for _, what := range f.combinations() {
		rows, err := f.rows(ctx, what)
		if err != nil {
			return nil, fmt.Errorf("%s, %d ranks: %w", what.Way(), what.Ranks, err)
		}
		r.Rows = append(r.Rows, rows...)
	}
	r.note()
	return r, nil
}

// Way is the road in words, with what is not the default of a job.
func (b *RingRow) Way() string {
	words := []string{b.Road}
	for _, w := range []string{b.Topology, b.Reduce, b.Wire} {
		if w != "" && w != "exact" && w != "float32" {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

// rows measures all sizes with one set of ranks.
func (f *RingOptions) rows(ctx context.Context, what RingRow) (rows []RingRow, err error) {
	spec := rankSpec{Road: what.Road, World: what.Ranks, Sizes: f.bytes, Chunk: what.Chunk, Window: f.Window, Bucket: f.Bucket,
		Micros: what.Micros, Fast: what.Reduce == "fast", BF16: what.Wire == "bf16"}
	l, err := startRanks(ctx, spec, what.Topology == "mesh", f.Listen, f.Through)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	for _, n := range f.bytes {
		row := what
		row.Bytes = n
		if err := row.measure(l, f.Budget); err != nil {
			return nil, fmt.Errorf("%s: %w", plain.Bytes(int64(n)), err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}
