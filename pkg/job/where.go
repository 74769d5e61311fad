package job

import (
	"io"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/s3url"
)

// Where returns the place of a key's value in the job file at path with its
// --set options, for a mistake that shows only later, when the data is open: a
// Problem without text. It has no line where the key is a default, and no source
// where the file cannot be read any more.
func (k Kinds) Where(path string, set []string, key string) Problem {
	none := Problem{Key: key}
	f, _, err := regular.Open(path)
	if err != nil {
		return none
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return none
	}
	root, err := parseYAML(path, b)
	if err != nil {
		return none
	}
	var j Job
	if p, ok := k.read(path, root, set, &j).at[key]; ok {
		return p
	}
	return Problem{Source: path, Key: key}
}

// Abs resolves a path of a job file against base, the file's own directory. An
// address in an object store is one already.
func Abs(base, path string) string {
	if filepath.IsAbs(path) || s3url.Is(path) {
		return path
	}
	return filepath.Join(base, path)
}
