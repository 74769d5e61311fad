package machine

import (
	"io"
	"os"
)

// read reads one of the kernel's files, which are short and not there on other systems.
func read(path string) (string, bool) {
	f, err := os.Open(path)
	if err != nil {
		return "", false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<16))
	return string(b), err == nil
}
