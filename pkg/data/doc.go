// Package data turns episodes into micro-batches: it opens a data set, fixes
// what training needs to know about it, and says which sample comes when.
//
//	files or recipe                                     pkg/train
//	      │                                                 ▲
//	   Open ──> Dataset ──> Source ──> LocalFeed ──> Prefetcher ──> *models.Batch
//	              │            ▲           │  ▲        Collator: decode, resize,
//	             Meta        Order ────────┘  │        normalise, check shapes
//	      (kept in checkpoints)               │
//	                            bus: EncodeSamples / DecodeSamples
//
// The smallest use:
//
//	d, err := data.Open(job.Data, data.WantsOf(job.Model.Options), job.Seed, dir, nil)
//	order := data.Order{Seed: job.Seed, N: d.Meta().Train, Global: 64, Micro: 8, Shuffle: true}
//	feed, err := data.NewLocalFeed(d.Train(), order)
//	p, err := data.NewPrefetcher(feed, d.Meta(), order.Micro, 4, data.Range{Start: step, Lo: 0, Hi: order.Micros()})
//	defer p.Close()
//	batch, err := p.Next(ctx, step, 0)
//
// The caller's duties: keep Meta in the checkpoint and give it back to Open on
// resume and evaluation; close the Prefetcher before the Dataset; do not use a
// batch after the following Next.
//
// Dataset.Survey decodes samples, lists what is wrong with them and sums the
// data up; Index and Change are for a run that goes on with data that is not
// what it was (see Watch, Accept).
//
// # Sources
//
//	tabletop   synthetic scenes, instructions and a scripted expert, made on the fly
//	copy       the copy task: tokens whose labels are themselves
//	tensors    one .safetensors file of ready tensors
//	rlds       TFRecord episodes as TFDS writes them, one camera of them
//	folder     manifest.jsonl beside PNG or JPEG files
//
// # Invariants
//
//   - A sample is a pure function of the data and its index, and its place in
//     the stream one of Order's five numbers. Neither knows ranks, world size,
//     time or threads, so the samples of a micro-batch are the job's.
//   - The same bits everywhere: pixels are decoded, resized and rendered in
//     integers or with every product rounded by itself, so that no compiler
//     fuses it; nothing uses the library's transcendental functions.
//   - The held-out split is by episode. Vocabulary and statistics come from the
//     training split alone.
//   - Files and wire bytes are untrusted: lengths are believed only as far as
//     the bytes go, checksums are checked before content, names stay inside
//     their folder, and errors name file, record or line, and what was expected.
package data
