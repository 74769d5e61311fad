package job

import "strings"

// Nearest returns the candidate with the least edit distance to s, if it is
// near enough to be what was meant; the first of equals.
func Nearest(s string, candidates []string) (string, bool) {
	best, least := "", 1+mistakes(len(s))
	for _, c := range candidates {
		if d := distance(strings.ToLower(s), c); d < least && d < max(len(s), len(c)) {
			best, least = c, d
		}
	}
	return best, best != ""
}

// mistakes is how many a word of n bytes may have: two in a word of three leave
// nothing of it, and the list of what there is helps more than a guess.
func mistakes(n int) int {
	if n <= 3 {
		return 1
	}
	return max(2, n/3)
}

// distance is the number of insertions, deletions, substitutions and swaps of
// neighbours (bytes) that turn a into b: Damerau-Levenshtein, each place once.
func distance(a, b string) int {
	const most = 64 // longer words are not typing mistakes, and cost squares
	if len(a) > most || len(b) > most {
		return max(len(a), len(b))
	}
	var row [3][most + 1]int // i-2, i-1, i
	for j := range len(b) + 1 {
		row[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[2][0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(row[2][j-1]+1, row[1][j]+1, row[1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, row[0][j-2]+1)
			}
			row[2][j] = d
		}
		row[0], row[1] = row[1], row[2]
	}
	return row[1][len(b)]
}

// meant ends a message about an unknown word: the nearest known one, or all.
func meant(word string, known []string) string {
	if n, ok := Nearest(word, known); ok {
		return "did you mean " + n + "?"
	}
	return "want one of " + strings.Join(known, ", ")
}

// Or lists words to choose from: a, b or c.
func Or(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return strings.Join(words, "")
}
