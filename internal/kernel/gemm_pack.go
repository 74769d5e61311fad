package kernel

// packPanels lays B[k0:k1, j0:j1] out as panels of two vectors' columns, k by k. Columns beyond j1 become zero.
//
//	panel 0: k0: nr columns │ k0+1: nr columns │ … ; panel 1: …
func (g *Gemm) packPanels(v *vectorOps, ws *Workspace, k0, k1, j0, j1 int) []float32 {
	nr, kc := 2*v.lanes, k1-k0
	buf := grow(&ws.packB, ((j1-j0+nr-1)/nr)*nr*kc)
	p := &ws.pack
	p.steps = uintptr(kc)
	p.pitch = uintptr(nr) * 4
	j := j0
	if groups := (j1 - j0) / nr; groups > 0 && g.BCol == 1 {
		p.src, p.dst = &g.B[j0+k0*g.BRow], &buf[0]
		p.stride = uintptr(g.BRow) * 4
		p.groups, p.hop = uintptr(groups), uintptr(nr*kc)*4
		v.panels(p)
		j += groups * nr
	}
	for ; j < j1; j += v.lanes {
		at := (j-j0)/nr*nr*kc + (j-j0)%nr
		packLanes(v, p, g.B, j*g.BCol+k0*g.BRow, g.BCol, g.BRow, min(v.lanes, j1-j), buf, at)
	}
	return buf
}

// packStrips lays A[i0:i1, k0:k1] out as strips of mr rows, k by k. The last strip keeps the pitch of a full one.
func (g *Gemm) packStrips(v *vectorOps, ws *Workspace, i0, i1, k0, k1 int) []float32 {
	kc := k1 - k0
	buf := grow(&ws.packA, ((i1-i0+v.mr-1)/v.mr)*v.mr*kc+v.lanes)
	p := &ws.pack
	p.steps = uintptr(kc)
	p.pitch = uintptr(v.mr) * 4
	for i := i0; i < i1; i += v.mr {
		packLanes(v, p, g.A, i*g.ARow+k0*g.ACol, g.ARow, g.ACol, min(v.mr, i1-i), buf, (i-i0)*kc)
	}
	return buf
}

// packStrip packs one strip.
func (g *Gemm) packStrip(v *vectorOps, ws *Workspace, i0, i1, k0, k1 int) *float32 {
	return &g.packStrips(v, ws, i0, i1, k0, k1)[0]
}

// packLanes packs one vector's worth of lanes from src[from] to dst[at]; p.steps and p.pitch are set.
func packLanes(v *vectorOps, p *packArgs, src []float32, from, lane, step, lanes int, dst []float32, at int) {
	p.src, p.dst = &src[from], &dst[at]
	p.lanes = uintptr(lanes)
	switch {
	case lane == 1 || lanes == 1:
		p.stride = uintptr(step) * 4
		v.copy(p)
	case step == 1 || p.steps == 1:
		p.stride = uintptr(lane) * 4
		v.transpose(p)
	default:
		pitch := int(p.pitch / 4)
		for s := 0; s < int(p.steps); s++ {
			for l := 0; l < v.lanes && at+s*pitch+l < len(dst); l++ {
				x := float32(0)
				if l < lanes {
					x = src[from+s*step+l*lane]
				}
				dst[at+s*pitch+l] = x
			}
		}
	}
}

// groupStrips strips of a transposed A are packed together, so that whole cache lines are read.
const groupStrips = 4

// groupPacker packs the strips of a transposed A while they are used. While the strips of group n run, group n+1 is packed, in as many
// parts as there are strips; and while strip s runs, its micro-kernels fetch what strip s+1 will pack.
//
//	strip            0          1          2          3
//	pack group n+1   part 0     part 1     part 2     part 3
//	fetch            part 1     part 2     part 3     part 0 of group n+2
//
// A part is read within a few microseconds of being fetched: rows of A a power of two apart share few sets of the caches.
type groupPacker struct {
	g              *Gemm
	v              *vectorOps
	p              *packArgs
	i0, i1, k0, kc int
	part           int // steps
	hop            int // floats from strip to strip in buf
	buf            [2][]float32
}

func (q *groupPacker) start(g *Gemm, v *vectorOps, ws *Workspace, i0, i1, k0, k1 int) {
	*q = groupPacker{g: g, v: v, p: &ws.pack, i0: i0, i1: i1, k0: k0, kc: k1 - k0}
	q.part = (q.kc + groupStrips - 1) / groupStrips
	q.hop = v.mr*q.kc + v.lanes // a strip's last store is a whole vector
	n := groupStrips * q.hop
	buf := grow(&ws.packA, 2*n)
	q.buf = [2][]float32{buf[:n], buf[n:]}
	for at := range groupStrips {
		q.pack(i0, at, q.buf[0])
	}
}

// at returns where row i stands: its group's first row, the strip within the group, and the group's buffer.
func (q *groupPacker) at(i int) (group, strip int, buf []float32) {
	n := (i - q.i0) / q.v.mr
	strip = n % groupStrips
	return i - strip*q.v.mr, strip, q.buf[n/groupStrips%2]
}

// strip returns the packed strip that begins at row i, after packing a part of the next group.
func (q *groupPacker) strip(i int) *float32 {
	group, strip, buf := q.at(i)
	if next := group + groupStrips*q.v.mr; next < q.i1 {
		_, _, other := q.at(next)
		q.pack(next, strip, other)
	}
	return &buf[strip*q.hop]
}

// fetch makes the nth micro-kernel of the strip at row i fetch two cache lines of each row of the part that comes next.
func (q *groupPacker) fetch(t *tileArgs, i, nth int) {
	group, strip, _ := q.at(i)
	next, part := group+groupStrips*q.v.mr, strip+1
	if part == groupStrips {
		next, part = next+groupStrips*q.v.mr, 0
	}
	if next >= q.i1 || nth*2*lineFloats >= groupStrips*q.v.mr {
		t.fetch(t.a, 0, 0)
		return
	}
	a := &q.g.A[next+q.k0*q.g.ACol]
	t.fetch(step(a, part*q.part*q.g.ACol+nth*2*lineFloats), lineBytes, uintptr(q.g.ACol)*4)
}

// pack packs a part of the group of strips that begins at row i.
func (q *groupPacker) pack(i, part int, buf []float32) {
	s0, s1 := min(part*q.part, q.kc), min((part+1)*q.part, q.kc)
	if s0 == s1 {
		return
	}
	ie := min(i+groupStrips*q.v.mr, q.i1)
	g, p := q.g, q.p
	from := (q.k0 + s0) * g.ACol
	p.steps = uintptr(s1 - s0)
	p.pitch = uintptr(q.v.mr) * 4
	full := (ie - i) / q.v.mr
	if full > 0 {
		p.src, p.dst = &g.A[from+i], &buf[s0*q.v.mr]
		p.stride = uintptr(g.ACol) * 4
		p.groups, p.hop = uintptr(full), uintptr(q.hop)*4
		q.v.strips(p)
	}
	if rows := (ie - i) % q.v.mr; rows > 0 {
		packLanes(q.v, p, g.A, from+ie-rows, 1, g.ACol, rows, buf, full*q.hop+s0*q.v.mr)
	}
}
