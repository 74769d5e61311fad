package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/data/internal/lerobot"
	"github.com/vlaring/vlaring/pkg/models"
)

// lerobotColumns are the numbers of a table, a value or vector a row: all that is
// read of it when data is opened, and what a Scan keeps. They are checked alike
// whether they come from the one or the other.
//
//	uvarint rows
//	rows × (varint episode, varint frame, each less the row's before; frame also less 1)
//	u8 1 and rows × varint task less the row's before; or u8 0
//	u8 1 and rows × f64 seconds; or u8 0
//	for each feature  rows × dim × f32
type lerobotColumns struct {
	episode, frame, task []int64     // [rows]; no task where no instruction is wanted
	seconds              []float64   // [rows] since the episode's beginning; none where no camera is video
	features             [][]float32 // [rows, dim] of each feature of each vector, in order
}

// recipe is what the columns depend on but the tables.
func (s *lerobotScan) recipe() Fingerprint {
	return NewFingerprint("scan of lerobot").Add("columns", fmt.Sprintf("%+v instruction %v seconds %v", s.fields, s.o.Wants.Has(models.Instruction), len(s.videos) > 0))
}

// columns are those of a table, from the Scan where it knows the file, with what
// recognises the file.
func (s *lerobotScan) columns(rel string) (c *lerobotColumns, sum string, err error) {
	path := filepath.Join(s.set.Dir, rel)
	k, err := s.scan.recall(path, "", false)
	if err != nil {
		return nil, "", err
	}
	if k != nil {
		if c = s.learn(k.memo); c != nil {
			return c, tableText(k.size, k.sample), nil
		}
		delete(s.scan.now.files, s.scan.name(path, ""))
	}
	tab, err := s.set.Table(rel)
	if err != nil {
		return nil, "", err
	}
	defer tab.Close()
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", err
	}
	if c, err = s.readColumns(tab, path); err != nil {
		return nil, "", err
	}
	if sum, err = tableSum(path); err != nil {
		return nil, "", err
	}
	return c, sum, s.scan.remember(path, "", stampOf(info), "", c.memo(), 0)
}

// readColumns reads the columns of a table.
func (s *lerobotScan) readColumns(tab *lerobot.Table, path string) (c *lerobotColumns, err error) {
	into := &lerobotColumns{}
	c = into
	defer func() { err = into.named(err) }()
	if c.episode, err = tab.Ints("episode_index"); err != nil {
		return nil, err
	}
	if c.frame, err = tab.Ints("frame_index"); err != nil {
		return nil, err
	}
	if s.o.Wants.Has(models.Instruction) {
		if c.task, err = tab.Ints("task_index"); err != nil {
			return nil, err
		}
	}
	if len(s.videos) > 0 {
		if c.seconds, err = tab.Doubles("timestamp"); err != nil {
			return nil, err
		}
	}
	for _, v := range s.fields.vectors {
		for i, name := range v.of {
			a, err := tab.Floats(name, v.sizes[i])
			if err != nil {
				return nil, err
			}
			c.features = append(c.features, a)
		}
	}
	for _, camera := range s.fields.cameras {
		if s.videos[camera] == nil && !tab.Has(camera) {
			of := ""
			if len(c.episode) > 0 {
				of = fmt.Sprintf("episodes from %d on: ", c.episode[0])
			}
			return nil, fmt.Errorf("%s%s has no column %s, which %s calls pictures", of, path, camera, lerobot.InfoFile)
		}
	}
	return c, nil
}

// named says of which frame an error about a row is.
func (c *lerobotColumns) named(err error) error {
	var row *lerobot.RowError
	if !errors.As(err, &row) || row.Row >= len(c.episode) || row.Row >= len(c.frame) {
		return err
	}
	return fmt.Errorf("episode %d, frame %d: %w", c.episode[row.Row], c.frame[row.Row], err)
}

// memo is the columns as a Scan keeps them.
func (c *lerobotColumns) memo() []byte {
	b := binary.AppendUvarint(nil, uint64(len(c.episode)))
	e, f := int64(0), int64(-1)
	for r := range c.episode {
		b = binary.AppendVarint(binary.AppendVarint(b, c.episode[r]-e), c.frame[r]-f-1)
		e, f = c.episode[r], c.frame[r]
	}
	b = append(b, byte(min(len(c.task), 1)))
	last := int64(0)
	for _, t := range c.task {
		b, last = binary.AppendVarint(b, t-last), t
	}
	b = append(b, byte(min(len(c.seconds), 1)))
	for _, x := range c.seconds {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	}
	for _, a := range c.features {
		b = octets.Append(b, a)
	}
	return b
}

// learn reads a memo; nil where it does not fit.
func (s *lerobotScan) learn(memo []byte) *lerobotColumns {
	r, c := &memoReader{b: memo}, &lerobotColumns{}
	n := r.int()
	if n > len(r.b)/2 {
		return nil
	}
	e, f := int64(0), int64(-1)
	for range n {
		e, f = e+r.signed(), f+1+r.signed()
		c.episode, c.frame = append(c.episode, e), append(c.frame, f)
	}
	if want := s.o.Wants.Has(models.Instruction) && n > 0; (r.byte() == 1) != want || r.short {
		return nil
	} else if want {
		last := int64(0)
		for range n {
			last += r.signed()
			c.task = append(c.task, last)
		}
	}
	if want := len(s.videos) > 0 && n > 0; (r.byte() == 1) != want || r.short {
		return nil
	} else if want {
		b := r.take(8 * n)
		for i := 0; i < len(b); i += 8 {
			c.seconds = append(c.seconds, math.Float64frombits(binary.LittleEndian.Uint64(b[i:])))
		}
	}
	for _, v := range s.fields.vectors {
		for _, dim := range v.sizes {
			b := r.take(4 * n * dim)
			a := make([]float32, len(b)/4)
			octets.Get(a, b)
			c.features = append(c.features, a)
		}
	}
	if r.short || len(r.b) > 0 {
		return nil
	}
	return c
}
