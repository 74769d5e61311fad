package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// base is a small file that is in order.
const base = `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":0,"content":"[PAD]","special":true}],"normalizer":null,"pre_tokenizer":{"type":"Whitespace"},
"post_processor":null,"decoder":null,"model":{"type":"WordPiece","unk_token":"?","vocab":{"[PAD]":0,"?":1,"a":2,"##b":3}}}`

// What a file asks for and this package does not do, or contradicts itself in, is
// refused, and the message says where.
func TestBadFiles(t *testing.T) {
	if _, err := parse("t.json", []byte(base)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, says string }{
		{`"version":"1.0"`, `"version":"2.0"`, `t.json: version: "2.0"; a tokenizer.json has 1.0`},
		{`"decoder":null`, `"decoder":`, `t.json: no JSON at byte`},
		{`"normalizer":null`, `"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Sparkle"}]}`, `normalizer.normalizers[1]: type "Sparkle" is not read here; want BertNormalizer`},
		{`"normalizer":null`, `"normalizer":{"lowercase":true}`, `normalizer: has no type`},
		{`"normalizer":null`, `"normalizer":{"type":"Replace","pattern":{"Regex":"(?<=a)b"},"content":""}`, `normalizer.pattern.Regex "(?<=a)b": "(?<="`},
		{`"normalizer":null`, `"normalizer":{"type":"Precompiled","precompiled_charsmap":"////"}`, `normalizer.precompiled_charsmap: 3 bytes`},
		{`{"type":"Whitespace"}`, `{"type":"Split","pattern":{"Regex":"a{2,1}"},"behavior":"Isolated"}`, `pre_tokenizer.pattern.Regex`},
		{`{"type":"Whitespace"}`, `{"type":"Split","pattern":"a","behavior":"Sideways"}`, `pre_tokenizer.behavior: "Sideways"; want Removed`},
		{`{"type":"Whitespace"}`, `{"type":"Metaspace","replacement":"__"}`, `pre_tokenizer.replacement: "__"; want one character`},
		{`"type":"WordPiece"`, `"type":"Magic"`, `model: type "Magic" is not read here; want WordPiece, BPE, Unigram, WordLevel`},
		{`"unk_token":"?"`, `"unk_token":"!"`, `model.unk_token: "!" is not in the vocabulary`},
		{`"a":2`, `"a":3`, `"##b" and "a" both have the number 3`},
		{`"a":2`, `"a":-2`, `model.vocab: "a" has the number -2`},
		{`"a":2`, `"a":99999999`, `model.vocab: "a" has the number 99999999; want 0 to 16777215`},
		{`"content":"[PAD]"`, `"content":"[MASK]"`, `added_tokens[0]: "[MASK]" has the number 0, and by the vocabulary it is 4`},
		{`"truncation":null`, `"truncation":{"max_length":0}`, `truncation.max_length: 0; want at least 1`},
		{`"padding":null`, `"padding":{"pad_id":7}`, `padding.pad_id: 7, which the vocabulary lacks`},
		{`"post_processor":null`, `"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"X"}}],"special_tokens":{}}`, `post_processor.single[0]: "X" is not among special_tokens`},
		{`"post_processor":null`, `"post_processor":{"type":"BertProcessing","sep":["x",9],"cls":["y",1]}`, `post_processor: adds the token 9, which the vocabulary lacks`},
		{`"model":{"type":"WordPiece","unk_token":"?","vocab":{"[PAD]":0,"?":1,"a":2,"##b":3}}`, `"model":{"type":"BPE","vocab":{"[PAD]":0,"a":1},"merges":[["a","z"]]}`, `model.merges[0]: "a" and "z" are not both in the vocabulary`},
		{`"model":{"type":"WordPiece","unk_token":"?","vocab":{"[PAD]":0,"?":1,"a":2,"##b":3}}`, `"model":{"type":"BPE","vocab":{"[PAD]":0,"a":1},"merges":[],"dropout":0.1}`, `model.dropout: 0.1`},
		{`"model":{"type":"WordPiece","unk_token":"?","vocab":{"[PAD]":0,"?":1,"a":2,"##b":3}}`, `"model":{"type":"Unigram","vocab":[["[PAD]",0]],"unk_id":4}`, `model.unk_id: 4; the vocabulary has 0 to 0`},
	} {
		text := strings.Replace(base, c.old, c.new, 1)
		if text == base {
			t.Fatalf("%s does not stand in the base", c.old)
		}
		_, err := parse("t.json", []byte(text))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s:\n got %v\nwant %s", c.new, err, c.says)
		}
	}
}

// A folder without a tokenizer, a text that is too long, too few tokens, and a
// tokenizer that was changed where it is kept.
func TestBadUse(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "holds no tokenizer: want tokenizer.json or vocab.txt") {
		t.Error(err)
	}
	if _, err := Read(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Error(err)
	}
	tok, err := Read("testdata/bert.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode(strings.Repeat("a", maxText+1)); err == nil || !strings.Contains(err.Error(), "at most 65536") {
		t.Error(err)
	}
	if _, err := tok.EncodeAtMost("a", 2); err == nil || !strings.Contains(err.Error(), "want at least 3") {
		t.Error(err)
	}
	kept := tok.Keep(0)
	kept.Gzip[len(kept.Gzip)/2] ^= 1
	if _, err := kept.Open(); err == nil {
		t.Error("a flipped bit went unseen")
	}
	other := tok.Keep(0)
	other.SHA256 = strings.Repeat("0", 64)
	if _, err := other.Open(); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Error(err)
	}
}

// A vocab.txt is BERT's tokenizer: the same numbers as the tokenizer.json of that
// vocabulary. It is of lower case as its words are, unless tokenizer_config.json says.
func TestVocabularyFile(t *testing.T) {
	want, err := Read("testdata/bert.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read("testdata/vocab.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range load[[]string](t, "corpus.json") {
		a, _ := got.EncodeAtMost(text, 24)
		b, _ := want.Encode(text)
		if !slices.Equal(a, b) {
			t.Errorf("%q: %v, want %v", text, a, b)
		}
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("vocab.txt", "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\nred\r\nRed\r\n")
	for _, c := range []struct {
		config string
		want   []int32
	}{{"", []int32{2, 5, 4, 3}}, {`{"do_lower_case": true}`, []int32{2, 4, 4, 3}}, {`{"do_lower_case": false}`, []int32{2, 5, 4, 3}}} {
		if c.config != "" {
			write("tokenizer_config.json", c.config)
		}
		tok, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := encode(t, tok, "Red red"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.config, got, c.want)
		}
	}
	for text, says := range map[string]string{"a\nb\na\n": `line 3: "a" stands on line 1 already`, "a\n": "without [PAD]"} {
		write("vocab.txt", text)
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %s", text, err, says)
		}
	}
}

// A pattern's work grows with its length times the text's: what makes backtracking
// run for years ends in a moment.
func TestPatternsEnd(t *testing.T) {
	for _, p := range []string{`(a*)*b`, `(a|a)*b`, `(a+)+$b`, `(?:a?){100}a{100}b`, `(?=(a*)*b)a`} {
		x, err := newPattern(p)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		x.runs(strings.Repeat("a", 1000))
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("%s took %v", p, d)
		}
	}
}

// Patterns beside what Oniguruma makes of them.
func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          []string // matches
	}{
		{`a|ab`, "abab", []string{"a", "a"}}, // the first alternative, not the longest
		{`\s+(?!\S)|\s+`, "a   b  ", []string{"  ", " ", "  "}},
		{`(?i:'s|'re)|x`, "'S 'rE X x", []string{"'S", "'rE", "x"}},
		{`(?i)straSSE`, "STRASSE strasse", []string{"STRASSE", "strasse"}},
		{`\p{N}{1,3}`, "12345 ٣٤", []string{"123", "45", "٣٤"}},
		{`[^\r\n\p{L}\p{N}]?\p{L}+`, "a-bc\nd", []string{"a", "-bc", "d"}},
		{`a+?`, "aa", []string{"a", "a"}},
		{`a++a`, "aaa", nil},
		{`(?>a+)b|a`, "aab a", []string{"aab", "a"}},
		{`[\[\]\-a-c]+`, "[b-]d", []string{"[b-]"}},
		{`[]a]+`, "]a]", []string{"]a]"}},
		{`[a-c&x[0-9]]+`, "a&5z", []string{"a&5"}},
		{`\x{1F34E}|\u00e9|\x41`, "🍎éA", []string{"🍎", "é", "A"}},
		{`\bcube\b`, "cube cubes", []string{"cube"}},
		{`^a|b$`, "ab\nab", []string{"a", "b", "a", "b"}},
		{`\P{L}+|\p{^L}`, "a12b", []string{"12"}},
		{`\p{Han}+`, "ab拿起c", []string{"拿起"}},
		{`(ab|c){2,}`, "abcab c", []string{"abcab"}},
		{`\w+`, "5m² ¾l é a\u200db _1", []string{"5m²", "¾l", "é", "a", "b", "_1"}}, // as Oniguruma's table has it
		{`\b²`, "²", []string{"²"}},
	} {
		p, err := newPattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		var got []string
		for _, r := range p.runs(c.text) {
			if r.match {
				got = append(got, c.text[r.lo:r.hi])
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s in %q: %q, want %q", c.pattern, c.text, got, c.want)
		}
	}
	for _, p := range []string{`(`, `)`, `a)`, `[`, `[a`, `*`, `a{`, `\`, `\p{Nobody}`, `\k<a>`, `(?<n>a)`, `(?<!a)b`, `[b-a]`, `a{1025}`, `((((a{1000}){1000})))`, `[a&&b]`, `[[:alpha:]]`, `\1`, "\xff", strings.Repeat("(", 200)} {
		if _, err := newPattern(p); err == nil {
			t.Errorf("%.40q is read", p)
		}
	}
}

// Nothing that is read makes the package fall over, and what it reads gives numbers
// that it knows.
func FuzzFile(f *testing.F) {
	for _, name := range []string{"bert", "clip", "llama2", "t5", "unigram_bytes", "words", "added"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "pick up the red cube, s'il te plaît 拿起")
	}
	f.Add([]byte(base), "ab a\u0301")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		tok, err := parse("f", b)
		if err != nil {
			return
		}
		if len(text) > 200 {
			text = text[:200]
		}
		ids, err := tok.Encode(text)
		if err != nil {
			return
		}
		for _, id := range ids {
			if id < 0 || int(id) >= tok.Size() {
				t.Fatalf("%q has the token %d of %d", text, id, tok.Size())
			}
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add(`\p{L}+(?!\S)|[^a-c]{2,3}?`, "abc  d")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		p, err := newPattern(pattern)
		if err != nil || len(p.prog) > 200 || len(text) > 100 {
			return
		}
		at := 0
		for _, r := range p.runs(text) {
			if r.lo < at || r.hi < r.lo || r.hi > len(text) {
				t.Fatalf("%q in %q: a run %v behind %d", pattern, text, r, at)
			}
			at = r.hi
		}
		if at != len(text) {
			t.Fatalf("%q in %q: runs end at %d", pattern, text, at)
		}
	})
}

// The file is the JSON that the package itself writes: every golden one is read again
// as it is kept.
func TestKeptBytes(t *testing.T) {
	for name := range load[map[string]json.RawMessage](t, "golden.json") {
		path := filepath.Join("testdata", name+".json")
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(tok.Keep(0))
		if err != nil {
			t.Fatal(err)
		}
		var kept Kept
		if err := json.Unmarshal(text, &kept); err != nil {
			t.Fatal(err)
		}
		back, err := kept.Open()
		if err != nil {
			t.Fatal(err)
		}
		if string(back.JSON()) != string(want) {
			t.Errorf("%s comes back as other bytes", name)
		}
	}
}
