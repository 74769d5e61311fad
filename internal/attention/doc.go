// Package attention takes a checkpoint's heads apart: where each head of each
// layer looks for one input, how even and how far its attention is, and what
// the results of a stack of layers are made of (attention rollout).
//
//	r, err := attention.Look(rt, attention.Subject{Model: m, Meta: meta, …}, batch, spec)
//	fmt.Print(r.Text(false))
//	err = r.Draw("maps.png")
//
// A report is one JSON object, too. Its positions have names: words, patches by
// row and column, the class token.
package attention
