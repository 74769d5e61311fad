// Package safetensors reads and writes the safetensors format, strictly: a
// file either obeys the format to the last byte or is refused with an error
// that names the file, the tensor and what is wrong.
//
//	 0        8              8+N                                  size
//	┌────────┬──────────────┬────────────┬────────────┬──────────┐
//	│ N u64le│ header, JSON │ tensor     │ tensor     │   …      │
//	└────────┴──────────────┴────────────┴────────────┴──────────┘
//	          {"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},…}
//
// Offsets count from the end of the header. Tensors are little-endian,
// row-major, packed, and lie without holes or overlap up to the file's end.
//
// Reading:
//
//	f, err := safetensors.Open("model.safetensors")
//	if err != nil { … }
//	defer f.Close()
//	w, err := f.Float32("encoder.weight")
//
// Writing (the same tensors always give the same bytes, those of the Rust
// library's serialize):
//
//	v, err := safetensors.NewView(tensors, nil)
//	_, err = v.WriteTo(w)
//
// A [View] is the file as an io.ReaderAt over tensors in memory, so that a
// snapshot can be hashed, written and sent piece by piece without ever being
// one slice of bytes.
//
// Format: https://github.com/huggingface/safetensors, README "Format" and
// safetensors/src/tensor.rs.
package safetensors
