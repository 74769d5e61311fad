// Package tokenizer turns text into the token numbers that a pretrained language
// model has learned: what a tokenizer.json of the Python package tokenizers, or
// the vocab.txt of BERT, describes. It gives the numbers that the package gives,
// or refuses the file: a file that asks for something else than what stands here
// is an error that names the place.
//
//	t, err := tokenizer.Read("models/minilm") // tokenizer.json, vocab.txt, or their folder
//	ids, err := t.Encode("pick up the red cube")
//
// A text goes through five stations, each a part of the file:
//
//	text ─ added tokens ─> pieces ─ normalizer ─> pieces ─ pre-tokenizer ─> words ─ model ─> ids ─ post-processor ─> ids
//	        [SEP], <s>              NFC, lower            " ", punctuation         WordPiece,        [CLS] … [SEP]
//	                                case, …               bytes, …                 BPE, Unigram
//
// Nothing here reads a network, and nothing depends on a map's order or on the
// machine: scores of Unigram are added in float64, one after the other. What a
// file and a text may take is bounded (maxFile, maxText), and so is the work of a
// pattern: matches are found in time that grows with pattern times text.
package tokenizer
