// Package objects is an S3-compatible object store, as far as a trainer needs one:
// it lists, reads, stores and removes objects below an address, and says what is
// wrong in the words of whoever has to mend it.
//
//	b, err := objects.Open(url)                 // asks nobody anything yet
//	l, err := b.List(ctx, "checkpoints/")       // keys below the address
//	f, err := b.File(ctx, "model.safetensors")  // an io.ReaderAt
//	err = b.Upload(ctx, "model.safetensors", r, size, moved)
//
// # Uploads that go on
//
// An object of more than a part is stored by a multipart upload, of which the store
// keeps the parts until it is completed. Upload needs nothing else to go on after a
// kill: it asks the store which parts of the key it has, and sends those that are
// missing or have other bytes.
//
//	     Upload
//	        │ the object is there with these bytes ───────────────> nothing to do
//	        │ an upload of the key is there ──> its parts
//	        ▼
//	part 1 ─ has this hash: kept      part 2 ─ missing: sent      part 3 ─ other hash: sent
//	        ▼
//	complete ─> the object's size and hash are compared
//
// # What is verified
//
// Each part is sent with its MD5 and its SHA-256, which the store compares with what
// came, and its answer is compared once more here. Of a complete object the store's
// hash is compared with one that is made here; where the store has another kind, as
// with encryption by a key service, the object is read back. A File reads one version
// of its object: one that is replaced in between is an error, and so is an object
// that ends early, or a store that answers with other bytes than those asked for.
//
// # Faults
//
// Errors are *Error. Transient says whether it is worth another try. What is asked
// for is tried a few times, with growing pauses; a connection on which nothing moves
// for a minute is given up. Whoever has hours to wait tries again itself.
package objects
