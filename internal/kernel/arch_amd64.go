//go:build !noasm

package kernel

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// archLevels asks the CPU, and through XGETBV the operating system, which vectors may be used.
func archLevels() []Level {
	var have []Level
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		have = append(have, AVX2)
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ {
			have = append(have, AVX512)
			if cpu.X86.HasAMXTile && cpu.X86.HasAMXBF16 && cpu.X86.HasAVX512BF16 && tilesAllowed() {
				have = append(have, AMX)
			}
		}
	}
	return have
}

func archUse(l Level) { vec, row, til = vectorOf(l), rowsOf(l), tilesOf(l) }

// vec is the code of the level in use, nil for plain Go. Like active it is written by init and Select alone.
var vec *vectorOps

func vectorOf(l Level) *vectorOps {
	switch l {
	case AVX2:
		return &avx2Ops
	case AVX512, AMX:
		return &avx512Ops
	}
	return nil
}

var avx512Ops = vectorOps{
	mr: 12, lanes: 16,
	full: gemmAVX512FullTiles, mask: gemmAVX512MaskTiles, half: gemmAVX512HalfTiles,
	transpose: transposeAVX512, untranspose: untransposeAVX512, copy: copyLanesAVX512, panels: copyPanelsAVX512, strips: copyStripsAVX512, peak: peakAVX512,
	narrow: narrowAVX512, widen: widenAVX512,
}

var avx2Ops = vectorOps{
	mr: 6, lanes: 8,
	full: gemmAVX2FullTiles, mask: gemmAVX2MaskTiles, half: gemmAVX2HalfTiles,
	transpose: transposeAVX2, untranspose: untransposeAVX2, copy: copyLanesAVX2, panels: copyPanelsAVX2, strips: copyStripsAVX2, peak: peakAVX2,
	narrow: narrowAVX2, widen: widenAVX2,
}

// til is the same for products of bfloat16.
var til *tileOps

func tilesOf(l Level) *tileOps {
	switch l {
	case AVX2:
		return &avx2Tiles
	case AVX512:
		return &avx512Tiles
	case AMX:
		return &amxTiles
	}
	return nil
}

var amxTiles = tileOps{
	amx: [2][2]func(*bfArgs){{gemmAMX1x1, gemmAMX1x2}, {gemmAMX2x1, gemmAMX2x2}}, peak: peakAMX,
	tile: gemmBF16AVX512, rows: 6, strips: 3, lanes: 32, widen: widenTilesAVX512, flat: flattenAVX512,
	floats: &tilePackers{stepsLane: packRowsAMX, stepsPair: packRowsTurnedAMX, lanesPair: packPairsAMX, lanesLane: packPairsTurnedAMX},
	words:  &wordPackers, round: roundWordsAMX, stream: streamRowsAVX512, fetch: fetchLines,
}

var avx512Tiles = tileOps{
	tile: gemmBF16AVX512, rows: 6, strips: 3, lanes: 32, widen: widenTilesAVX512, flat: flattenAVX512,
	floats: &tilePackers{stepsLane: packRowsAVX512, stepsPair: packRowsTurnedAVX512, lanesPair: packPairsAVX512, lanesLane: packPairsTurnedAVX512},
	words:  &wordPackers, round: roundWordsAVX512, stream: streamRowsAVX512, fetch: fetchLines,
}

var wordPackers = tilePackers{stepsLane: packRowsWords, stepsPair: packRowsTurnedWords, lanesPair: packPairsWords, lanesLane: packPairsTurnedWords}

var avx2Tiles = tileOps{
	tile: gemmBF16AVX2, rows: 6, strips: 3, lanes: 8, widen: widenTilesAVX2, flat: flattenAVX2,
	floats: wholePackers(packRowsAVX2, packPairsAVX2), words: wholePackers(packRowsWordsAVX2, packPairsWordsAVX2), round: roundWordsAVX2,
}

// wholePackers are packers of whole tiles: turned tiles are packed as they lie, and then turned.
func wholePackers(rows, pairs func(*bfPack)) *tilePackers {
	return &tilePackers{whole: true, stepsLane: rows, lanesPair: pairs,
		stepsPair: func(p *bfPack) {
			rows(p)
			turnTilesAVX2(p.dst, int(p.steps)/tileSteps)
		},
		lanesLane: func(p *bfPack) {
			pairs(p)
			for q := range p.groups {
				turnTilesAVX2((*uint16)(unsafe.Add(unsafe.Pointer(p.dst), q*p.hop)), int(p.steps)/tileSteps)
			}
		},
	}
}
