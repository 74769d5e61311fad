//go:build !noasm

package kernel

func rowsOf(l Level) *rowKernels {
	switch l {
	case AVX2:
		return &avx2Rows
	case AVX512, AMX:
		return &avx512Rows
	}
	return nil
}

var avx512Rows = rowKernels{
	add:            addAVX512,
	scale:          scaleAVX512,
	divide:         divideAVX512,
	addScaled:      addScaledAVX512,
	addProduct:     addProductAVX512,
	lerp:           lerpAVX512,
	reluBack:       reluBackAVX512,
	relu:           reluAVX512,
	exp:            expAVX512,
	tanh:           tanhAVX512,
	gelu:           geluAVX512,
	geluBack:       geluBackAVX512,
	erfGELU:        erfGELUAVX512,
	erfGELUBack:    erfGELUBackAVX512,
	swish:          swishAVX512,
	swishBack:      swishBackAVX512,
	multiply:       multiplyAVX512,
	sum:            sumAVX512,
	max:            maxAVX512,
	finite:         finiteAVX512,
	dot:            dotAVX512,
	sumSquares:     sumSquaresAVX512,
	sumSquaredDiff: sumSquaredDiffAVX512,
	softmax:        softmaxAVX512,
	softmaxTwo:     softmaxTwoAVX512,
	softmaxAgain:   softmaxAgainAVX512,
	softmaxBack:    softmaxBackAVX512,
	norm:           normAVX512,
	normBack:       normBackAVX512,
	normFour:       normFourAVX512,
	normBackFour:   normBackFourAVX512,
	rmsFour:        rmsFourAVX512,
	rmsBackFour:    rmsBackFourAVX512,
	addRows:        addRowsAVX512,
	normRows:       normRowsAVX512,
	reluRows:       reluRowsAVX512,
	adam:           adamAVX512,
	adamL2:         adamL2AVX512,
	drop:           dropAVX512,
	dropAdd:        dropAddAVX512,
	dropTwo:        dropTwoAVX512,
}

var avx2Rows = rowKernels{
	add:            addAVX2,
	scale:          scaleAVX2,
	divide:         divideAVX2,
	addScaled:      addScaledAVX2,
	addProduct:     addProductAVX2,
	lerp:           lerpAVX2,
	reluBack:       reluBackAVX2,
	relu:           reluAVX2,
	exp:            expAVX2,
	tanh:           tanhAVX2,
	gelu:           geluAVX2,
	geluBack:       geluBackAVX2,
	erfGELU:        erfGELUAVX2,
	erfGELUBack:    erfGELUBackAVX2,
	swish:          swishAVX2,
	swishBack:      swishBackAVX2,
	multiply:       multiplyAVX2,
	sum:            sumAVX2,
	max:            maxAVX2,
	finite:         finiteAVX2,
	dot:            dotAVX2,
	sumSquares:     sumSquaresAVX2,
	sumSquaredDiff: sumSquaredDiffAVX2,
	softmax:        softmaxAVX2,
	softmaxAgain:   softmaxAgainAVX2,
	softmaxBack:    softmaxBackAVX2,
	norm:           normAVX2,
	normBack:       normBackAVX2,
	addRows:        addRowsAVX2,
	normRows:       normRowsAVX2,
	reluRows:       reluRowsAVX2,
	adam:           adamAVX2,
	adamL2:         adamL2AVX2,
	drop:           dropAVX2,
	dropAdd:        dropAddAVX2,
	dropTwo:        dropTwoAVX2,
}
