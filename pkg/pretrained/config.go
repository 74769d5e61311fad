package pretrained

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/regular"
)

// config is what stands beside the weights: config.json, or the part of it that is
// of one encoder, and preprocessor_config.json.
type config struct {
	path  string // for messages
	found bool   // there is a config.json
	all   map[string]any
	own   map[string]any
	see   map[string]any // preprocessor_config.json
}

// maxConfig bounds the JSON that is read, in bytes.
const maxConfig = 1 << 20

// readConfig reads what stands beside weights at path, which may be their folder.
func readConfig(path string) (*config, error) {
	dir := path
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		dir = filepath.Dir(path)
	}
	c := &config{path: filepath.Join(dir, "config.json")}
	var err error
	if c.all, err = readJSON(c.path); err != nil {
		return nil, err
	}
	if c.see, err = readJSON(filepath.Join(dir, "preprocessor_config.json")); err != nil {
		return nil, err
	}
	c.found = c.all != nil
	c.own = c.all
	return c, nil
}

// readJSON reads an object; nil: there is no such file.
func readJSON(path string) (map[string]any, error) {
	b, err := regular.Read(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var x map[string]any
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("%s: %w: it is no JSON object; download it again", path, err)
	}
	return x, nil
}

// of is c for a part of it, where it has that part.
func (c *config) of(part string) *config {
	own, ok := c.all[part].(map[string]any)
	if !ok {
		return c
	}
	p := *c
	p.own = own
	return &p
}

func (c *config) number(key string) (float64, bool) {
	v, ok := c.own[key].(float64)
	return v, ok && key != ""
}

func (c *config) text(key string) (string, bool) {
	v, ok := c.own[key].(string)
	return v, ok && key != ""
}

func (c *config) flag(key string) bool {
	v, _ := c.own[key].(bool)
	return v
}

// lacks says which key is looked for, where there is a config.json.
func (c *config) lacks(key string) string {
	if !c.found || key == "" {
		return ""
	}
	return fmt.Sprintf(", with %s (%s has none)", key, c.path)
}

// kind is the model_type; of the whole file where the part has none.
func (c *config) kind() string {
	s, _ := c.all["model_type"].(string)
	return s
}

// scale is the mean and std of pictures in m, under the two keys.
func scale(m map[string]any, mean, std string) (out [2][3]float64, ok bool) {
	for i, key := range []string{mean, std} {
		l, _ := m[key].([]any)
		if len(l) != 3 {
			return out, false
		}
		for j, v := range l {
			if out[i][j], ok = v.(float64); !ok {
				return out, false
			}
		}
	}
	return out, true
}
