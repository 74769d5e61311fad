// Package weights fills a model's parameters from files of tensors: from a file
// of exactly its names (Load, LoadFirst), or from one of other names and other
// sizes (Import), for which a job's init.map is the dictionary.
//
//	file of tensors ─ rename (init.map) ─ place (whole, a third of a packed projection,
//	                                             resized positions) ─> parameter
//
// Nothing is guessed: what has no place, what is missing, what has another shape
// and what is not finite is an error that names the tensor. Where one more rule of
// init.map would make a file fit, the error says which one (see remedyFor).
package weights
