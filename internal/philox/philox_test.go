package philox

import "testing"

// Vectors from Random123's kat_vectors, "philox4x32 10".
func TestKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, [2]uint32{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := rounds(c.ctr, c.key); got != c.want {
			t.Errorf("Rounds(%x, %x) = %x, want %x", c.ctr, c.key, got, c.want)
		}
	}
}

// A draw depends on each part of its name.
func TestStreamsDiffer(t *testing.T) {
	base := Stream{Seed: 7, Purpose: Dropout, Site: 1, Step: 2, Sample: 3}
	others := []Stream{base, base, base, base, base}
	others[0].Seed++
	others[1].Purpose++
	others[2].Site++
	others[3].Step++
	others[4].Sample++
	for i, o := range others {
		if o.Block(5) == base.Block(5) {
			t.Errorf("variant %d draws the same block", i)
		}
	}
	for e := uint32(0); e < 1000; e++ {
		if u := base.Uniform(e); u < 0 || u >= 1 {
			t.Fatalf("Uniform(%d) = %v", e, u)
		}
		if n := base.Intn(e, 7); n < 0 || n >= 7 {
			t.Fatalf("Intn(%d, 7) = %d", e, n)
		}
	}
}
