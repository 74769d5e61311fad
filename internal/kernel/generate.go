package kernel

//go:generate sh -c "cd _gen && go run . -file gemm_avx512 -dir .."
//go:generate sh -c "cd _gen && go run . -file gemm_avx2 -dir .."
//go:generate sh -c "cd _gen && go run . -file gemm_neon -dir .."
//go:generate sh -c "cd _gen && go run . -file bf16_avx512 -dir .."
//go:generate sh -c "cd _gen && go run . -file bf16_avx2 -dir .."
//go:generate sh -c "cd _gen && go run . -file rows_avx512 -dir .."
//go:generate sh -c "cd _gen && go run . -file rows_avx2 -dir .."
//go:generate sh -c "cd _gen && go run . -file tiles_amx -dir .."
//go:generate sh -c "cd _gen && go run . -file tiles_avx512 -dir .."
//go:generate sh -c "cd _gen && go run . -file tiles_avx2 -dir .."
//go:generate sh -c "cd _gen && go run . -file tiles_neon -dir .."
