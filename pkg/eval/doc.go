// Package eval measures a model on a split of data: what it gets wrong, and what
// each of its exits costs.
//
//	data.Source ─ predict (batches of 32, no dropout) ─ scorer, loss ─ sums and counts ─ one division ─> Report
//
// A figure is the quotient of one sum and one count over the whole split, so it
// knows nothing of the batches (see mean). What is a target is defined once, for
// the loss in models.Targets and for the errors in scorer.
//
// Subject.Evaluate makes the Report of a model. A model with exits has more than one
// answer: a Stager runs it stage by stage until a Depth has enough, and
// Subject.Exits says what each depth, and each threshold of doubt, costs and gives.
package eval
