package tensor

// Mask says which keys a query may see; True, or 1, is visible. Its parts are
// combined: a key is visible where all of them say so. A query that sees
// nothing gets zeros.
//
// With a Window attention is sparse, and costs what is visible, not T²:
//
//	Window 1       + Stride 3      + Global 1
//	1 1 . . . .    1 1 . 1 . .     1 1 1 1 1 1     a query sees the keys up to Window
//	1 1 1 . . .    1 1 1 1 . .     1 1 1 . . .     places away; everyone sees every
//	. 1 1 1 . .    1 1 1 1 . .     1 1 1 1 . .     Stride-th key; the first Global
//	. . 1 1 1 .    1 . 1 1 1 .     1 . 1 1 1 .     tokens see all and are seen by all
//	. . . 1 1 1    1 . . 1 1 1     1 . . 1 1 1
//	. . . . 1 1    1 . . 1 1 1     1 . . . 1 1
type Mask struct {
	Causal    bool    // keys up to the query's own position
	Keys      *Bytes  // [B, T], per sample; nil: all
	Positions []uint8 // [T·T], query by key, for all samples; nil: all
	Window    int     // keys at most so many places from the query; 0: any
	Stride    int     // with a Window: keys 0, Stride, 2·Stride, … are seen from everywhere; 0: none
	Global    int     // with a Window: the first so many tokens see all and are seen by all
}

// Rule says whether Causal, Window, Stride and Global let query q see key k.
func (m Mask) Rule(q, k int) bool {
	if m.Causal && k > q {
		return false
	}
	return m.Window == 0 || max(q-k, k-q) <= m.Window || q < m.Global || m.anchor(k)
}

// anchor says whether everyone sees key k.
func (m Mask) anchor(k int) bool { return k < m.Global || m.Stride > 0 && k%m.Stride == 0 }

// Dense is Rule as a matrix [n·n], query by key: what Positions would be.
func (m Mask) Dense(n int) []uint8 {
	out := make([]uint8, n*n)
	for q := range n {
		for k := range n {
			if m.Rule(q, k) {
				out[q*n+k] = 1
			}
		}
	}
	return out
}

// anchors lists the keys below n that everyone sees, ascending; none without a
// window.
func (m Mask) anchors(n int) (list []int) {
	if m.Window == 0 {
		return nil
	}
	for k := range n {
		if m.anchor(k) {
			list = append(list, k)
		}
	}
	return list
}

// begin is the first key that query q sees for its window's sake.
func (m Mask) begin(q int) int {
	if m.Window == 0 || q < m.Global {
		return 0
	}
	return max(0, q-m.Window)
}

// end is the key after the last that query q of n sees, but for anchors.
func (m Mask) end(q, n int) int {
	if m.Causal {
		n = min(n, q+1)
	}
	if m.Window > 0 && q >= m.Global {
		n = min(n, q+m.Window+1)
	}
	return n
}
