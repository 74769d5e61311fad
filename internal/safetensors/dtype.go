package safetensors

// The reference's data types. The order matters: a writer puts the tensors of
// later types first, so that alignment only ever falls.
var dtypes = [...]struct {
	name string
	bits int64
}{
	{"BOOL", 8}, {"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8}, {"I8", 8},
	{"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
	{"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},
	{"I32", 32}, {"U32", 32}, {"F32", 32},
	{"C64", 64}, {"F64", 64}, {"I64", 64}, {"U64", 64},
}

// dtype returns the type's place in the reference's list and its bits per
// element; ok is false where there is no such type.
func dtype(name string) (rank int, bits int64, ok bool) {
	for i, d := range dtypes {
		if d.name == name {
			return i, d.bits, true
		}
	}
	return 0, 0, false
}
