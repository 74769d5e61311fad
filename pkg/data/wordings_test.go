package data

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// Every mistake in a file is named with its place, and what to write.
func TestWordingsThatAreNone(t *testing.T) {
	long := strings.Repeat("a", 1001)
	for _, c := range []struct{ text, says string }{
		{``, `:1:1: ends too early; want JSON such as {"open the drawer": ["pull the drawer open", "slide the drawer out"]}`},
		{"{\n \"a\": [\"b\",\n  c]}", `:3:3: is not JSON: invalid character 'c' looking for beginning of value; want JSON such as {"open the drawer": ["pull the drawer open", "slide the drawer out"]}`},
		{"{\n \"ä\": [\"b\"", `:2:11: ends too early; want JSON such as {"open the drawer": ["pull the drawer open", "slide the drawer out"]}`},
		{`["a"]`, `:1:1: is a list; want JSON such as {"open the drawer": ["pull the drawer open", "slide the drawer out"]}`},
		{`{}`, ` has no instruction in it; want JSON such as {"open the drawer": ["pull the drawer open", "slide the drawer out"]}`},
		{"{\"a\": [\"b\"]}\n{}", `:2:1: is not JSON: invalid character '{' after top-level value; want JSON such as {"open the drawer": ["pull the drawer open", "slide the drawer out"]}`},
		{"{\"a\": [\"b\xff\"]}", `:1:10: is not UTF-8; want JSON such as {"open the drawer": ["pull the drawer open", "slide the drawer out"]} in UTF-8`},
		{"{\n \"open\": []}", `:2:10: the wordings of "open" are an empty list: give it one, or take the entry out, and it is shown as it is`},
		{`{"open": "pull"}`, `:1:10: the wordings of "open" are "pull"; want a list, such as ["pull the drawer open"]`},
		{`{"open": 3}`, `:1:10: the wordings of "open" are 3; want a list, such as ["pull the drawer open"]`},
		{`{"open": ["pull", null]}`, `:1:19: a wording of "open" is null; want a text`},
		{`{"open": [["pull"]]}`, `:1:11: a wording of "open" is a list; want a text`},
		{`{"open": ["pull", " "]}`, `:1:19: a wording of "open" is empty; want words`},
		{`{"open": ["pull", "draw", "pull"]}`, `:1:27: "pull" stands twice among the wordings of "open": each is as likely as the others, so give it once`},
		{"{\n\"open\": [\"pull\"],\n\"shut\": [\"close\"],\n\"open\": [\"draw\"]}", `:4:1: "open" has an entry in line 2 already: put all of its wordings into one`},
		{`{"open": {"and": ["pull"]}}`, `:1:11: "open" has "and"; want a list of wordings, or {"instead": a list} where the instruction itself is not to be shown`},
		{`{"open": {"instead": "pull"}}`, `:1:22: the wordings of "open" are "pull"; want a list, such as ["pull the drawer open"]`},
		{`{"open": {"instead": []}}`, `:1:22: the wordings of "open" are an empty list: give it one, or take the entry out, and it is shown as it is`},
		{`{"open": {"instead": ["pull"], "and": []}}`, `:1:32: "open" has "and" behind "instead"; want that alone`},
		{`{"open": ["` + long + `"]}`, `:1:11: a wording of "open" has 1001 characters; want at most 1000`},
		{`{"open": [` + strings.TrimSuffix(manyTexts(1001), ",") + `]}`, `"open" has more than 1000 wordings`},
	} {
		path := wordingsFile(t, c.text)
		_, err := readWordings(path)
		if err == nil {
			t.Errorf("%.80s is taken", c.text)
			continue
		}
		if got := strings.Replace(err.Error(), path, "", 1); got != c.says && !(strings.HasPrefix(c.says, `"`) && strings.HasSuffix(got, c.says)) {
			t.Errorf("%.80s:\n got %s\nwant %s", c.text, got, c.says)
		}
	}
	path := wordingsFile(t, "")
	if err := os.Truncate(path, maxWordingsFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readWordings(path); err == nil || !strings.HasSuffix(err.Error(), "has 67108865 bytes; at most 67108864 are read") {
		t.Error(err)
	}
	w, err := readWordings(wordingsFile(t, "\ufeff{\"open\": [\"pull\", \"open\"], \"task 1\": {\"instead\": [\"draw\", \"drag\"]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{"open": {"open", "pull"}, "task 1": {"draw", "drag"}, "shut": {"shut"}} {
		if got := w.say(text); !slices.Equal(got, want) {
			t.Errorf("%s is said as %q, want %q", text, got, want)
		}
	}
	if got := w.say("open", "part", "pull"); !slices.Equal(got, []string{"open", "part", "pull"}) {
		t.Errorf("beside the data's own: %q", got)
	}
}

// manyTexts are n different wordings, each with a comma behind.
func manyTexts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d",`, i)
	}
	return b.String()
}

// The example has other words than those that docs/serving.md measures policies with.
func TestExampleOfWordings(t *testing.T) {
	w, err := readWordings("../../examples/metaworld-wordings.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("../../tools/rollout/rewordings.json")
	if err != nil {
		t.Fatal(err)
	}
	var asked map[string][]string
	if err := json.Unmarshal(b, &asked); err != nil || len(asked) != 10 || len(w.order) != 10 {
		t.Fatalf("%d tasks are asked in other words and %d trained, want 10 (%v)", len(asked), len(w.order), err)
	}
	for _, text := range w.order {
		said := w.say(text)
		if len(said) != 5 || said[0] != text {
			t.Errorf("%q has the wordings %q, want it and four", text, said)
		}
		for task, l := range asked {
			for _, s := range l {
				if slices.Contains(said, s) {
					t.Errorf("%q is a wording of training and a question of %s", s, task)
				}
			}
		}
	}
}

// Whatever a file has in it, it is refused with its place, or says each of its instructions
// in different wordings that are not empty.
func FuzzWordings(f *testing.F) {
	for _, text := range []string{`{"a": ["b", "c"]}`, `{"a": {"instead": ["b"]}}`, "\ufeff{}", `{"a": ["a"], "a": ["b"]}`, `[{`, `{"a": {"instead": [], "b": 1}}`, `{"": [""]}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseWordings("w.json", b)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "w.json") {
				t.Errorf("an error that does not name the file: %v", err)
			}
			return
		}
		for _, text := range w.order {
			said := w.say(text)
			for i, s := range said {
				if i > 0 && strings.TrimSpace(s) == "" || slices.Contains(said[:i], s) {
					t.Errorf("%q is said as %q", text, said)
				}
			}
			if w.of[text].line < 1 || len(said) == 0 {
				t.Errorf("%q, in line %d, has %d wordings", text, w.of[text].line, len(said))
			}
		}
	})
}
