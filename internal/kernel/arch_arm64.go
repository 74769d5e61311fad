//go:build !noasm

package kernel

// Advanced SIMD is part of every arm64 CPU. The matrix products are written for it; row kernels run as plain Go.
func archLevels() []Level { return []Level{NEON} }

func archUse(l Level) { vec, til = vectorOf(l), tilesOf(l) }

// vec is the code of the level in use, nil for plain Go. Like active it is written by init and Select alone.
var vec *vectorOps

func vectorOf(l Level) *vectorOps {
	if l == NEON {
		return &neonOps
	}
	return nil
}

var neonOps = vectorOps{
	mr: 6, lanes: 8,
	full: gemmNEONFullTiles, mask: gemmNEONMaskTiles, half: gemmNEONHalfTiles,
	transpose: transposeNEON, untranspose: untransposeNEON, copy: copyLanesNEON, panels: copyPanelsNEON, strips: copyStripsNEON, peak: peakNEON,
}

// til is the same for products of bfloat16. Packing is plain Go.
var til *tileOps

func tilesOf(l Level) *tileOps {
	if l == NEON {
		return &neonTiles
	}
	return nil
}

var neonTiles = tileOps{tile: gemmBF16NEON, rows: 4, strips: 1, lanes: 8, tells: true, widen: widenTilesNEON}
