package pretrained

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/models"
)

// Sentence is how an encoder of words was trained to stand for a whole text.
type Sentence struct {
	Path string // of the file that says so; empty: none does
	Pool string // of models.Tower
	Unit bool   // the vector is made as long as 1
}

// Describe says what the tower makes of words, in a line for people; s is what its
// weights were trained for.
func (s Sentence) Describe(t models.Tower) string {
	what := map[string]string{models.PoolMean: "the mean of the tokens", models.PoolCLS: "the class token", models.PoolLast: "the last token"}[t.Pool]
	if t.Unit {
		what += ", a unit vector"
	}
	switch {
	case s.Path == "":
		what += "; no modules.json beside the weights says what they were trained for"
	case s.Unit != t.Unit:
		what += fmt.Sprintf("; %s says otherwise: unit: %v", s.Path, s.Unit)
	default:
		what += ", as " + s.Path + " says"
	}
	return what
}

// module is a line of sentence-transformers' modules.json: what runs behind what
// stands before it.
type module struct {
	Path string `json:"path"`
	Type string `json:"type"`
}

// SentenceOf reads modules.json, as sentence-transformers writes it, beside the weights
// at path, which may be their folder, and what that names.
func SentenceOf(path string) (s Sentence, err error) {
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		path = filepath.Dir(path)
	}
	file := filepath.Join(path, "modules.json")
	b, err := regular.Read(file, maxConfig)
	if os.IsNotExist(err) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	var list []module
	if err := json.Unmarshal(b, &list); err != nil {
		return s, fmt.Errorf("%s: %w: it is no list of modules; download it again", file, err)
	}
	s.Path = file
	for i, m := range list {
		kind := m.Type[strings.LastIndex(m.Type, ".")+1:]
		switch {
		case kind == "Transformer" && i == 0:
		case kind == "Pooling" && i > 0 && s.Pool == "":
			if s.Pool, err = poolOf(path, m.Path); err != nil {
				return Sentence{}, err
			}
		case kind == "Normalize" && s.Pool != "" && i == len(list)-1:
			s.Unit = true
		default:
			return Sentence{}, fmt.Errorf("%s: module %d of %d is %q; what is known here is a Transformer, a Pooling and behind them perhaps a Normalize", file, i+1, len(list), m.Type)
		}
	}
	if s.Pool == "" {
		return Sentence{}, fmt.Errorf("%s: none of its %d modules is a Pooling, so it makes no sentence", file, len(list))
	}
	return s, nil
}

// poolOf is what config.json of a Pooling in the folder sub of dir says.
func poolOf(dir, sub string) (string, error) {
	if !fs.ValidPath(sub) {
		return "", fmt.Errorf("%s: the folder %q of its Pooling is not below it", filepath.Join(dir, "modules.json"), sub)
	}
	file := filepath.Join(dir, sub, "config.json")
	c, err := readJSON(file)
	if err != nil {
		return "", err
	}
	if c == nil {
		return "", fmt.Errorf("%s is missing, which says what becomes of the tokens; download it", file)
	}
	var modes []string
	for key, v := range c {
		if mode, ok := strings.CutPrefix(key, "pooling_mode_"); ok && v == true {
			modes = append(modes, mode)
		}
	}
	if mode, ok := c["pooling_mode"].(string); ok { // as newer releases write it
		modes = append(modes, mode)
	}
	known := map[string]string{"mean_tokens": models.PoolMean, "mean": models.PoolMean, "cls_token": models.PoolCLS, "cls": models.PoolCLS, "lasttoken": models.PoolLast}
	slices.Sort(modes)
	if len(modes) != 1 || known[modes[0]] == "" {
		return "", fmt.Errorf("%s says pooling %v; known here is one of mean_tokens, cls_token and lasttoken", file, modes)
	}
	return known[modes[0]], nil
}

// Files are what SentenceOf reads, by their paths in the folder of weights, whose
// features have that width.
func (s Sentence) Files(width int) map[string]any {
	const folder = "1_Pooling"
	of := func(i int, path, kind string) map[string]any {
		return map[string]any{"idx": i, "name": fmt.Sprint(i), "path": path, "type": "sentence_transformers.models." + kind}
	}
	list := []any{of(0, "", "Transformer"), of(1, folder, "Pooling")}
	if s.Unit {
		list = append(list, of(2, "2_Normalize", "Normalize"))
	}
	return map[string]any{
		"modules.json": list,
		folder + "/config.json": map[string]any{"word_embedding_dimension": width, "pooling_mode_mean_tokens": s.Pool == models.PoolMean, "pooling_mode_cls_token": s.Pool == models.PoolCLS,
			"pooling_mode_lasttoken": s.Pool == models.PoolLast, "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false},
	}
}
