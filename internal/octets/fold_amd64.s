//go:build !noasm

#include "textflag.h"

// func fold(f *[256]byte, p *byte, blocks int, by *[2]uint64)
TEXT ·fold(SB), NOSPLIT, $0-32
	MOVQ            f+0(FP), DI
	MOVQ            p+8(FP), SI
	MOVQ            blocks+16(FP), CX
	MOVQ            by+24(FP), DX
	VBROADCASTI32X4 (DX), Z8
	VMOVDQU64       (DI), Z0
	VMOVDQU64       64(DI), Z1
	VMOVDQU64       128(DI), Z2
	VMOVDQU64       192(DI), Z3
	TESTQ           CX, CX
	JZ              done
	PCALIGN         $32

loop:
	// A lane's lower half times the first number, its upper half times the second, and
	// the next block: 0x96 is the exclusive or of three.
	VPCLMULQDQ $0x00, Z8, Z0, Z4
	VPCLMULQDQ $0x00, Z8, Z1, Z5
	VPCLMULQDQ $0x00, Z8, Z2, Z6
	VPCLMULQDQ $0x00, Z8, Z3, Z7
	VPCLMULQDQ $0x11, Z8, Z0, Z0
	VPCLMULQDQ $0x11, Z8, Z1, Z1
	VPCLMULQDQ $0x11, Z8, Z2, Z2
	VPCLMULQDQ $0x11, Z8, Z3, Z3
	VPTERNLOGD $0x96, (SI), Z4, Z0
	VPTERNLOGD $0x96, 64(SI), Z5, Z1
	VPTERNLOGD $0x96, 128(SI), Z6, Z2
	VPTERNLOGD $0x96, 192(SI), Z7, Z3
	ADDQ       $256, SI
	DECQ       CX
	JNZ        loop

done:
	VMOVDQU64 Z0, (DI)
	VMOVDQU64 Z1, 64(DI)
	VMOVDQU64 Z2, 128(DI)
	VMOVDQU64 Z3, 192(DI)
	VZEROUPPER
	RET
