package frames

import (
	"errors"
	"os"
	"slices"
	"sync"

	"github.com/vlaring/vlaring/internal/regular"
)

// maxIdle is how many store files stay open that nobody reads at the moment: a
// data set may have as many as it has episodes.
const maxIdle = 128

// Files reads frames and keeps files open between reads. It is safe for
// concurrent use; the zero Files is ready.
type Files struct {
	mu   sync.Mutex
	idle []idleFile // the last one used stands last
}

type idleFile struct {
	s *Store
	f *os.File
}

// Frame is frame k of s: H·W·3 bytes of RGB, the caller's own. It is one read, and
// checked against the sum in the index.
func (c *Files) Frame(s *Store, k int) ([]byte, error) {
	f, err := c.take(s)
	if err != nil {
		return nil, err
	}
	b, err := s.read(f, k)
	return b, errors.Join(err, c.give(idleFile{s, f}))
}

func (c *Files) take(s *Store) (*os.File, error) {
	c.mu.Lock()
	if i := slices.IndexFunc(c.idle, func(x idleFile) bool { return x.s == s }); i >= 0 {
		f := c.idle[i].f
		c.idle = slices.Delete(c.idle, i, i+1)
		c.mu.Unlock()
		return f, nil
	}
	c.mu.Unlock()
	f, _, err := regular.Open(s.Path)
	return f, err
}

func (c *Files) give(x idleFile) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) >= maxIdle {
		err = c.idle[0].f.Close()
		c.idle = slices.Delete(c.idle, 0, 1)
	}
	c.idle = append(c.idle, x)
	return err
}

// Close closes the files.
func (c *Files) Close() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.idle {
		err = errors.Join(err, x.f.Close())
	}
	c.idle = nil
	return err
}
