package job

import "testing"

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"d_modl", "d_model", 1}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// A word of three letters is not another one because one letter is the same.
func TestNearestIsNear(t *testing.T) {
	for _, c := range []struct {
		word  string
		known []string
		want  string
	}{{"foo", []string{"flow", "low"}, ""}, {"lw", []string{"low", "high"}, "low"}, {"losss", []string{"loss"}, "loss"}, {"trian", []string{"train"}, "train"},
		{"tran", []string{"train", "eval"}, "train"}, {"mid_", []string{"mid"}, "mid"}, {"modle", []string{"model"}, "model"}} {
		if got, _ := Nearest(c.word, c.known); got != c.want {
			t.Errorf("%q of %v: %q, want %q", c.word, c.known, got, c.want)
		}
	}
}
