package data

import "unicode"

// findWords tells of samples whose instruction has no word, and of words that
// are whole sentences since their script puts no spaces between words.
func (o *Opening) findWords(t *table, tok *Tokenizer) {
	empty, unspaced := make([]bool, len(t.texts)), make([]string, len(t.texts))
	for i := range t.texts {
		words := splitWords(t.sayings(i)[0])
		empty[i] = len(words) == 0
		if !tok.Pretrained() {
			unspaced[i] = longUnspaced(words)
		}
	}
	none, whole, example := 0, 0, ""
	for _, i := range t.text {
		if empty[i] {
			none++
		}
		if unspaced[i] != "" {
			if whole == 0 {
				example = unspaced[i]
			}
			whole++
		}
	}
	if none > 0 {
		o.find("no_instruction", "", "the model sees one unknown word there", "%d of %d samples have no instruction", none, len(t.text))
	}
	if whole > 0 {
		o.find("unspaced_words", "", "put spaces between its words if the model is to tell them apart",
			"%d of %d samples have an instruction in a script without spaces between words, such as %q, which is one word here", whole, len(t.text), example)
	}
}

// longUnspaced returns the first word with at least two characters of a script
// that does not separate words by spaces.
func longUnspaced(words []string) string {
	for _, w := range words {
		n := 0
		for _, r := range w {
			if unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) {
				n++
			}
		}
		if n > 1 {
			return w
		}
	}
	return ""
}
