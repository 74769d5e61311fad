package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/regular"
)

// maxFile is the most bytes of a file that Read takes.
const maxFile = 1 << 26

// The files of a tokenizer in a folder, and what says how vocab.txt is to be used.
const (
	JSONFile   = "tokenizer.json"
	vocabFile  = "vocab.txt"
	configFile = "tokenizer_config.json"
)

// Read reads the tokenizer at path: a tokenizer.json, a vocab.txt, or a folder with
// one of them, of which tokenizer.json is taken first. Beside a vocab.txt a
// tokenizer_config.json may say do_lower_case, strip_accents and
// tokenize_chinese_chars; without it the vocabulary is of lower case where it has
// no upper one.
func Read(path string) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		for _, name := range []string{JSONFile, vocabFile} {
			at := filepath.Join(path, name)
			if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
				return Read(at)
			}
		}
		return nil, fmt.Errorf("%s holds no tokenizer: want %s or %s in it: %w", path, JSONFile, vocabFile, fs.ErrNotExist)
	}
	b, err := regular.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	if filepath.Ext(path) != ".txt" {
		return parse(path, b)
	}
	var config []byte
	beside := filepath.Join(filepath.Dir(path), configFile)
	if config, err = regular.Read(beside, maxFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	made, err := fromVocab(b, config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return parse(path, made)
}

// parse reads a tokenizer.json, which messages call name.
func parse(name string, b []byte) (*Tokenizer, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: %d bytes; a tokenizer may have %d", name, len(b), maxFile)
	}
	t := &Tokenizer{name: name, source: bytes.Clone(b), raw: matcher{}, normal: matcher{}, pad: -1}
	if err := t.read(b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func (t *Tokenizer) read(b []byte) error {
	x, err := decode[struct {
		Version    string
		Truncation json.RawMessage
		Padding    json.RawMessage
		Added      []addedToken    `json:"added_tokens"`
		Normalizer json.RawMessage `json:"normalizer"`
		Splitter   json.RawMessage `json:"pre_tokenizer"`
		Post       json.RawMessage `json:"post_processor"`
		Model      json.RawMessage `json:"model"`
	}]("", b)
	if err != nil {
		return err
	}
	if x.Version != "1.0" {
		return fmt.Errorf("version: %q; a tokenizer.json has 1.0", x.Version)
	}
	if t.normalizer, err = readNormalizer("normalizer", x.Normalizer); err != nil {
		return err
	}
	if t.splitter, err = readSplitter("pre_tokenizer", x.Splitter); err != nil {
		return err
	}
	if t.model, t.vocabulary, t.unknown, err = readModel("model", x.Model); err != nil {
		return err
	}
	if err := t.add(x.Added); err != nil {
		return err
	}
	if t.names, err = byNumber(t.vocabulary); err != nil {
		return err
	}
	known := func(id int32) bool { return id >= 0 && int(id) < len(t.names) && t.names[id] != "" }
	if t.post, err = readPost("post_processor", x.Post, known); err != nil {
		return err
	}
	if t.cut, err = readTruncation(x.Truncation); err != nil {
		return err
	}
	if t.cut != nil && t.cut.length <= t.post.added() {
		return fmt.Errorf("truncation.max_length: %d; the post-processor adds %d tokens to every text", t.cut.length, t.post.added())
	}
	if !isNull(x.Padding) {
		p, err := decode[struct {
			ID int32 `json:"pad_id"`
		}]("padding", x.Padding)
		if err != nil {
			return err
		}
		if !known(p.ID) {
			return fmt.Errorf("padding.pad_id: %d, which the vocabulary lacks", p.ID)
		}
		t.pad = p.ID
		return nil
	}
	for _, name := range []string{"[PAD]", "<pad>", "<|pad|>"} {
		if id, ok := t.vocabulary[name]; ok {
			t.pad = id
			break
		}
	}
	return nil
}

func readModel(at string, raw json.RawMessage) (model, map[string]int32, int32, error) {
	kind, err := kindOf(at, raw)
	if err != nil {
		return nil, nil, -1, err
	}
	if kind == "" { // files of old versions do not say
		x, err := decode[map[string]json.RawMessage](at, raw)
		if err != nil {
			return nil, nil, -1, err
		}
		switch {
		case x == nil:
			return nil, nil, -1, fmt.Errorf("%s: is missing", at)
		case x["merges"] != nil:
			kind = "BPE"
		case x["unk_id"] != nil:
			kind = "Unigram"
		case x["continuing_subword_prefix"] != nil:
			kind = "WordPiece"
		default:
			kind = "WordLevel"
		}
	}
	read := map[string]func(string, json.RawMessage) (model, map[string]int32, int32, error){
		"WordPiece": readWordPiece, "BPE": readBPE, "Unigram": readUnigram, "WordLevel": readWordLevel}[kind]
	if read == nil {
		return nil, nil, -1, unknownKind(at, kind, "WordPiece, BPE, Unigram, WordLevel")
	}
	m, vocab, unknown, err := read(at, raw)
	if err == nil && len(vocab) == 0 {
		err = fmt.Errorf("%s.vocab: is empty", at)
	}
	return m, vocab, unknown, err
}

// add adds the file's tokens to the vocabulary, whose numbers are those that the
// tokenizers package gives them: the vocabulary's own, or those behind it.
func (t *Tokenizer) add(list []addedToken) error {
	size := int32(len(t.vocabulary))
	all := make(map[string]int32, len(t.vocabulary)+len(list))
	for text, id := range t.vocabulary {
		all[text] = id
	}
	last := int32(-1) // the largest number that a token was added with
	for i, a := range list {
		if a.Content == "" {
			continue
		}
		id, ok := all[a.Content]
		if !ok {
			if id = size; last >= size {
				id = last + 1
			}
		}
		if id != a.ID {
			return fmt.Errorf("added_tokens[%d]: %q has the number %d, and by the vocabulary it is %d: write that, or add it to the vocabulary", i, a.Content, a.ID, id)
		}
		all[a.Content], last = id, max(last, id)
		if a.Special && !slices.Contains(t.special, id) {
			t.special = append(t.special, id)
		}
		text := a.Content
		if a.Normalized && t.normalizer != nil {
			text = t.normalizer.normalize(text)
		}
		if a.Normalized {
			t.normal.add(text, a)
		} else {
			t.raw.add(text, a)
		}
	}
	slices.Sort(t.special)
	t.vocabulary = all
	return nil
}

// byNumber is a vocabulary by its numbers.
func byNumber(vocab map[string]int32) ([]string, error) {
	size := 0
	for text, id := range vocab {
		if id < 0 || id >= limits.Vocabulary {
			return nil, fmt.Errorf("model.vocab: %q has the number %d; want 0 to %d", text, id, limits.Vocabulary-1)
		}
		size = max(size, int(id)+1)
	}
	names := make([]string, size)
	for text, id := range vocab {
		if names[id] != "" {
			a, b := names[id], text
			if a > b {
				a, b = b, a
			}
			return nil, fmt.Errorf("model.vocab: %q and %q both have the number %d", a, b, id)
		}
		names[id] = text
	}
	return names, nil
}

// decode reads the part of a file that stands at the given place.
func decode[T any](at string, raw json.RawMessage) (x T, err error) {
	if err := json.Unmarshal(raw, &x); err != nil {
		if at != "" {
			at += ": "
		}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return x, fmt.Errorf("%sno JSON at byte %d, and want the JSON of a tokenizer.json (a vocabulary of a token a line ends in .txt): %w", at, syntax.Offset, err)
		}
		return x, fmt.Errorf("%s%w", at, err)
	}
	return x, nil
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(bytes.TrimSpace(raw)) == "null"
}

// kindOf is the type of a part of a file; "" where there is no such part.
func kindOf(at string, raw json.RawMessage) (string, error) {
	if isNull(raw) {
		return "", nil
	}
	x, err := decode[struct{ Type string }](at, raw)
	if err == nil && x.Type == "" && at != "model" {
		err = fmt.Errorf("%s: has no type", at)
	}
	return x.Type, err
}

func unknownKind(at, kind, known string) error {
	return fmt.Errorf("%s: type %q is not read here; want %s", at, kind, known)
}

// fromVocab makes the tokenizer.json of a vocab.txt: a token a line, whose number is
// the line's from 0, for WordPiece as BERT has it.
func fromVocab(b, config []byte) ([]byte, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("%d bytes; a vocabulary may have %d", len(b), maxFile)
	}
	vocab := map[string]int32{}
	upper := false
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		token := strings.TrimSuffix(line, "\r")
		if was, twice := vocab[token]; twice {
			return nil, fmt.Errorf("line %d: %q stands on line %d already", i+1, token, was+1)
		}
		vocab[token] = int32(i)
		upper = upper || token != strings.ToLower(token) && !strings.HasPrefix(token, "[")
	}
	x := struct {
		Lower   *bool `json:"do_lower_case"`
		Accents *bool `json:"strip_accents"`
		Chinese *bool `json:"tokenize_chinese_chars"`
	}{}
	if config != nil {
		var err error
		if x, err = decode[struct {
			Lower   *bool `json:"do_lower_case"`
			Accents *bool `json:"strip_accents"`
			Chinese *bool `json:"tokenize_chinese_chars"`
		}](configFile, config); err != nil {
			return nil, err
		}
	}
	special := func(name string) (id int32, err error) {
		id, ok := vocab[name]
		if !ok {
			err = fmt.Errorf("a vocabulary without %s, which BERT's have", name)
		}
		return id, err
	}
	var added []addedToken
	for _, name := range []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} {
		id, err := special(name)
		if err != nil && name != "[MASK]" {
			return nil, err
		}
		if err == nil {
			added = append(added, addedToken{ID: id, Content: name, Special: true})
		}
	}
	m := map[string]any{"version": "1.0", "added_tokens": added,
		"normalizer": map[string]any{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": or(x.Chinese, true),
			"strip_accents": x.Accents, "lowercase": or(x.Lower, !upper)},
		"pre_tokenizer":  map[string]any{"type": "BertPreTokenizer"},
		"post_processor": map[string]any{"type": "BertProcessing", "sep": []any{"[SEP]", vocab["[SEP]"]}, "cls": []any{"[CLS]", vocab["[CLS]"]}},
		"padding":        map[string]any{"pad_id": vocab["[PAD]"]},
		"model":          map[string]any{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}}
	return json.Marshal(m)
}
