package tokenizer

import "unicode"

// isSpace is the property White_Space.
func isSpace(r rune) bool { return unicode.Is(unicode.White_Space, r) }

// isPatternWord is what a pattern's \w is. Oniguruma has a table of its own below 256, in
// which raised digits and fractions are parts of words, and knows no Join_Control.
func isPatternWord(r rune) bool {
	switch r {
	case '²', '³', '¹', '¼', '½', '¾':
		return true
	case 0x200C, 0x200D:
		return false
	}
	return isWord(r)
}

// isWord is what parts of a file that have no pattern take for a part of a word:
// letters, marks, decimal digits, connectors.
func isWord(r rune) bool {
	if r < 0x80 {
		return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}

// isPunctuation is BERT's: all of ASCII that is no letter, digit, space or
// control, and Unicode's.
func isPunctuation(r rune) bool {
	if r < 0x80 {
		return r > ' ' && r < 0x7f && !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}
	return unicode.Is(unicode.P, r)
}

// isOther is what BERT takes out of a text as a control character.
func isOther(r rune) bool {
	switch r {
	case '\t', '\n', '\r':
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs) // what nobody has named yet stays
}

// isIdeograph is what BERT takes for a Chinese character, which is a word of its own.
func isIdeograph(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF || r >= 0x2A700 && r <= 0x2B73F ||
		r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF || r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}
