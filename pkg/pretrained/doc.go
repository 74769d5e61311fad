// Package pretrained takes encoders of others into a model: it recognises one by
// its tensors and its config.json, says what it is as a models.Backbone, loads its
// weights under this program's names, and writes them back under its own.
//
//	found, err := pretrained.Open("minilm/", pretrained.Words)
//	found.Backbone                          // what to build: models.NewBackbone
//	t, err := found.Load(params, "language_encoder.", 0)
//
// A family is one file with a table of names, a row for each parameter:
//
//	ours                             theirs
//	blocks.#.attention.in_proj       encoder.layer.#.attention.self.{query, key, value}
//
// What can be seen in the tensors (widths, layers, biases, which tokens there are)
// is read there, and what cannot (heads, epsilon, activation) in config.json; where
// both say it they must agree. A tensor that has no row and is not known to be left
// out is an error: it would be a part of the function that nobody computes.
//
// Nothing here opens a network connection.
package pretrained
