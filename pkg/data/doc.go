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
// A kind of data is one file and a line of Kinds: tabletop.go, copytask.go,
// recall.go, tensors.go, rlds.go, folder.go. Its options are a struct of its keys
// in the job's data section, which embeds those keys that several kinds have
// (WordKeys, FileKeys, ActionKeys); they check themselves, for a job file and for
// Open alike, say which features they give, and open the data:
//
//	o.HeldOut    which episodes are held out
//	o.Meta       a description, with the features that the model wants
//	o.Words      settles instructions: vocabulary and length
//	o.Numbers    settles a feature of numbers: shape, names, statistics
//	NewSet       the samples, whose values stand in the order of Meta.Spec
//
// A kind of another package does the same: see pkg/train/feature_test.go.
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
