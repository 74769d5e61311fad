package lerobot

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/parquet-go/parquet-go"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/sniff"
)

// maxRows bounds a table.
const maxRows = 1 << 31

// Table is one parquet file. Columns are read whole, but for pictures.
type Table struct {
	path string
	f    *os.File
	size int64 // of the file
	file *parquet.File

	mu      sync.Mutex
	checked map[chunkOf]error // nil: what it claims it holds
}

// Table opens the file at a path below the data set.
func (s *Set) Table(rel string) (*Table, error) {
	path := filepath.Join(s.Dir, rel)
	f, size, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	t := &Table{path: path, f: f, size: size}
	if t.file, err = openParquet(f, size); err != nil {
		head := sniff.Head(f, size)
		f.Close()
		what := sniff.Instead(head, sniff.Tensors)
		if what == "" || strings.HasPrefix(string(head), "PAR1") {
			what = fmt.Sprintf("it is no parquet file, or one that is cut off: %v; download or copy it again", err)
		}
		return nil, fmt.Errorf("%s: %s", path, what)
	}
	if n := t.file.NumRows(); n < 0 || n > maxRows {
		f.Close()
		return nil, fmt.Errorf("%s: it has %d rows; at most %d are read", path, n, maxRows)
	}
	return t, nil
}

// openParquet keeps a damaged file from ending the program.
func openParquet(r io.ReaderAt, size int64) (f *parquet.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	if err := checkFooter(r, size); err != nil {
		return nil, err
	}
	return parquet.OpenFile(r, size, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true)) // an index leads past what is checked
}

// ahead is for how many rows memory is taken before any has come.
const ahead = 1 << 16

// Close closes the file.
func (t *Table) Close() error { return t.f.Close() }

// Rows is the number of rows.
func (t *Table) Rows() int { return int(t.file.NumRows()) }

// leaves are the leaf columns of a column, by number and path.
func (t *Table) leaves(column string) (numbers []int, paths [][]string) {
	for i, p := range t.file.Schema().Columns() {
		if p[0] == column {
			numbers, paths = append(numbers, i), append(paths, p)
		}
	}
	return numbers, paths
}

// Has says whether there is a column.
func (t *Table) Has(column string) bool {
	n, _ := t.leaves(column)
	return len(n) > 0
}

// columns are the names of all columns.
func (t *Table) columns() (l []string) {
	for _, p := range t.file.Schema().Columns() {
		if !slices.Contains(l, p[0]) {
			l = append(l, p[0])
		}
	}
	return l
}

// texts are the names of the columns of texts, one a row.
func (t *Table) texts() (l []string) {
	for _, c := range t.file.Schema().Fields() {
		if c.Leaf() && !c.Repeated() && c.Type().Kind() == parquet.ByteArray {
			l = append(l, c.Name())
		}
	}
	return l
}

// leaf is the only leaf of a column.
func (t *Table) leaf(column string) (int, error) {
	n, paths := t.leaves(column)
	switch {
	case len(n) == 0:
		return 0, fmt.Errorf("%s has no column %s; it has %s", t.path, column, strings.Join(t.columns(), ", "))
	case len(n) > 1:
		return 0, fmt.Errorf("%s: column %s has %d parts (%s), where one is expected", t.path, column, len(n), strings.Join(paths[0], "."))
	}
	return n[0], nil
}

// values hands the values of a leaf to use, with the row that each is of.
func (t *Table) values(column string, leaf int, use func(row int, v parquet.Value) error) (err error) {
	row := -1
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
		if err != nil {
			err = fmt.Errorf("%s: column %s: %w", t.path, column, err)
		}
	}()
	left := mostOf(t.size)
	for i, g := range t.file.RowGroups() {
		if err := t.check(chunkOf{i, leaf}); err != nil {
			return err
		}
		err := chunkValues(g.ColumnChunks()[leaf], func(v parquet.Value) error {
			if left -= 8; v.Kind() == parquet.ByteArray || v.Kind() == parquet.FixedLenByteArray {
				left -= int64(len(v.ByteArray()))
			}
			if left < 0 {
				return fmt.Errorf("it unpacks to more than %d bytes, and the file has %d: give it fewer rows, and more files", mostOf(t.size), t.size)
			}
			if v.RepetitionLevel() == 0 {
				row++
			}
			if row >= t.Rows() {
				return fmt.Errorf("more than the %d rows that the file says it has", t.Rows())
			}
			return use(row, v)
		})
		if err != nil {
			return err
		}
	}
	if row+1 != t.Rows() {
		return fmt.Errorf("%d rows of %d", row+1, t.Rows())
	}
	return nil
}

// chunkValues hands the values of a leaf in a row group to use, which are valid until
// it returns.
func chunkValues(c parquet.ColumnChunk, use func(v parquet.Value) error) (err error) {
	pages := c.Pages()
	defer func() { err = errors.Join(err, pages.Close()) }()
	buf := make([]parquet.Value, 1024)
	for {
		page, err := pages.ReadPage()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := pageValues(page, buf, use); err != nil {
			return err
		}
	}
}

// pageValues is chunkValues of one page, which it releases.
func pageValues(page parquet.Page, buf []parquet.Value, use func(v parquet.Value) error) error {
	defer parquet.Release(page)
	r := page.Values()
	for {
		n, err := r.ReadValues(buf)
		for _, v := range buf[:n] {
			if err := use(v); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var errNull = errors.New("a value is missing (null)")

// RowError says what is wrong with a row of a column.
type RowError struct {
	Row  int
	What string // after the row's number
}

func (e *RowError) Error() string { return fmt.Sprintf("row %d%s", e.Row, e.What) }

func badRow(row int, format string, a ...any) error {
	return &RowError{row, fmt.Sprintf(format, a...)}
}

// Ints is a column of whole numbers, one a row.
func (t *Table) Ints(column string) ([]int64, error) {
	leaf, err := t.leaf(column)
	if err != nil {
		return nil, err
	}
	out := make([]int64, 0, min(t.Rows(), ahead))
	err = t.values(column, leaf, func(row int, v parquet.Value) error {
		x, whole := number(v)
		switch {
		case v.IsNull():
			return badRow(row, ": %v", errNull)
		case !whole || row != len(out):
			return badRow(row, " is no whole number")
		}
		out = append(out, int64(x))
		return nil
	})
	return out, err
}

// Strings is a column of texts, one a row.
func (t *Table) Strings(column string) ([]string, error) {
	leaf, err := t.leaf(column)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, min(t.Rows(), ahead))
	err = t.values(column, leaf, func(row int, v parquet.Value) error {
		if v.IsNull() || v.Kind() != parquet.ByteArray && v.Kind() != parquet.FixedLenByteArray || row != len(out) {
			return badRow(row, " is no text")
		}
		out = append(out, string(v.ByteArray()))
		return nil
	})
	return out, err
}

// Floats is a column of dim numbers a row, row by row, as float32.
func (t *Table) Floats(column string, dim int) ([]float32, error) {
	leaf, err := t.leaf(column)
	if err != nil {
		return nil, err
	}
	out := make([]float32, 0, min(t.Rows(), ahead)*dim)
	at, n := -1, 0 // the row, and its values so far
	whole := func() error {
		if at >= 0 && n != dim {
			return badRow(at, " has %d values, the feature has %d", n, dim)
		}
		return nil
	}
	err = t.values(column, leaf, func(row int, v parquet.Value) error {
		if row != at {
			if err := whole(); err != nil {
				return err
			}
			at, n = row, 0
		}
		if v.IsNull() {
			return badRow(row, ": %v", errNull)
		}
		x, ok := asFloat(v)
		if !ok {
			return badRow(row, " is no number")
		}
		if n++; n > dim {
			return whole()
		}
		out = append(out, x)
		return nil
	})
	if err == nil {
		if err = whole(); err != nil {
			err = fmt.Errorf("%s: column %s: %w", t.path, column, err)
		}
	}
	return out, err
}

// Doubles is a column of numbers, one a row, without loss.
func (t *Table) Doubles(column string) ([]float64, error) {
	leaf, err := t.leaf(column)
	if err != nil {
		return nil, err
	}
	out := make([]float64, 0, min(t.Rows(), ahead))
	err = t.values(column, leaf, func(row int, v parquet.Value) error {
		x, _ := number(v)
		if v.IsNull() || x-x != 0 || row != len(out) {
			return badRow(row, " is no finite number")
		}
		out = append(out, x)
		return nil
	})
	return out, err
}

// number is a value as a float64, and whether it is a whole number.
func number(v parquet.Value) (x float64, whole bool) {
	switch v.Kind() {
	case parquet.Boolean:
		if v.Boolean() {
			return 1, true
		}
		return 0, true
	case parquet.Int32:
		return float64(v.Int32()), true
	case parquet.Int64:
		i := v.Int64()
		return float64(i), int64(float64(i)) == i
	case parquet.Float:
		x = float64(v.Float())
	case parquet.Double:
		x = v.Double()
	default:
		return math.NaN(), false
	}
	return x, x == math.Trunc(x) && math.Abs(x) < 1<<53
}

func asFloat(v parquet.Value) (float32, bool) {
	if v.Kind() == parquet.Float {
		return v.Float(), true
	}
	x, _ := number(v)
	switch v.Kind() {
	case parquet.Boolean, parquet.Int32, parquet.Int64, parquet.Double:
		return float32(x), true
	}
	return 0, false
}

// maxPicture bounds an encoded picture, in bytes.
const maxPicture = 1 << 28

// Picture is the encoded picture in a row of a column, and what the table calls it.
func (t *Table) Picture(column string, row int) (b []byte, path string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
		if err != nil {
			err = fmt.Errorf("%s: column %s, row %d: %w", t.path, column, row, err)
		}
	}()
	leaves, paths := t.leaves(column)
	for k, leaf := range leaves {
		name := paths[k][len(paths[k])-1]
		if len(paths[k]) == 2 && name != "bytes" && name != "path" {
			continue
		}
		v, err := t.at(leaf, row)
		if err != nil {
			return nil, "", err
		}
		switch {
		case v.IsNull():
		case name == "path":
			path = string(v.ByteArray())
		case len(v.ByteArray()) > maxPicture:
			return nil, "", fmt.Errorf("a picture of %d bytes", len(v.ByteArray()))
		default:
			b = slices.Clone(v.ByteArray())
		}
	}
	if b == nil && path == "" {
		return nil, "", errNull
	}
	return b, path, nil
}

// at is the value of a leaf in a row that has one.
func (t *Table) at(leaf, row int) (parquet.Value, error) {
	for i, g := range t.file.RowGroups() {
		n := int(g.NumRows())
		if row >= n {
			row -= n
			continue
		}
		if err := t.check(chunkOf{i, leaf}); err != nil {
			return parquet.Value{}, err
		}
		pages := g.ColumnChunks()[leaf].Pages()
		defer pages.Close()
		if err := pages.SeekToRow(int64(row)); err != nil {
			return parquet.Value{}, err
		}
		page, err := pages.ReadPage()
		if err != nil {
			return parquet.Value{}, err
		}
		defer parquet.Release(page)
		var buf [1]parquet.Value
		if n, err := page.Values().ReadValues(buf[:]); n < 1 {
			return parquet.Value{}, fmt.Errorf("no value: %v", err)
		}
		return buf[0].Clone(), nil
	}
	return parquet.Value{}, errors.New("there is no such row")
}
