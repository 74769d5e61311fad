//go:build !amd64 || noasm

package octets

// folds: crc32 has the instruction of this CPU, if it has one.
const folds = false

func fold(*[foldBytes]byte, *byte, int, *[2]uint64) { panic("there is none") }
