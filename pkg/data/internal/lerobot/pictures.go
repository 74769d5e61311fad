package lerobot

import (
	"fmt"
	"slices"
	"sync"

	"github.com/parquet-go/parquet-go"
)

// A parquet file has no index of its pages unless its writer made one, and
// LeRobot's does not: one picture costs the decoding of all before it in its row
// group. Recordings have a row group an episode; data sets that were merged or
// converted have one a file, of a hundred megabytes. So a row group's pictures are
// read at once, front to back, and kept as the files that they are.

// maxHeld bounds the memory of the pictures that a process keeps of a data set,
// and maxGroup that of a row group, beyond which pictures are read one by one.
const (
	maxHeld  = 1 << 30
	maxGroup = maxHeld / 4
)

// Pictures reads the pictures of tables, and keeps those of the row groups that
// were used last. It is safe for concurrent use; the zero Pictures is ready.
type Pictures struct {
	mu     sync.Mutex
	groups []*group // the one used last stands last
	held   int64    // bytes, as the files say before they are read
	most   int64    // 0: maxHeld
}

// group is the pictures of a column in a row group.
type group struct {
	path, column string
	place        int   // of the row group in the file
	size         int64 // bytes
	once         sync.Once
	pictures     []picture
	err          error
}

type picture struct {
	bytes []byte
	path  string
}

func (x picture) missing() bool { return x.bytes == nil && x.path == "" }

// Picture is Table.Picture. The bytes are shared: they are to be read only.
func (p *Pictures) Picture(t *Table, column string, row int) (b []byte, path string, err error) {
	place, first, n := t.groupOf(row)
	size := int64(0)
	leaves, _ := t.leaves(column)
	for _, leaf := range leaves {
		if n > 0 {
			size += t.file.Metadata().RowGroups[place].Columns[leaf].MetaData.TotalUncompressedSize
		}
	}
	if n == 0 || size > maxGroup {
		return t.Picture(column, row)
	}
	g := p.take(t.path, column, place, size)
	g.once.Do(func() { g.pictures, g.err = t.group(column, place, n, size) })
	if g.err != nil || g.pictures[row-first].missing() { // each row says for itself what is wrong with it
		return t.Picture(column, row)
	}
	x := g.pictures[row-first]
	return x.bytes, x.path, nil
}

// take finds a row group, or makes room for it. Whoever reads one that leaves
// meanwhile reads on.
func (p *Pictures) take(path, column string, place int, size int64) *group {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.groups, func(g *group) bool { return g.place == place && g.column == column && g.path == path })
	if i >= 0 {
		g := p.groups[i]
		p.groups = append(slices.Delete(p.groups, i, i+1), g)
		return g
	}
	most := p.most
	if most == 0 {
		most = maxHeld
	}
	for len(p.groups) > 0 && p.held+size > most {
		p.held -= p.groups[0].size
		p.groups = slices.Delete(p.groups, 0, 1)
	}
	g := &group{path: path, column: column, place: place, size: size}
	p.groups, p.held = append(p.groups, g), p.held+size
	return g
}

// groupOf is the row group that has a row: its place, its first row and its length;
// 0 where there is none.
func (t *Table) groupOf(row int) (place, first, n int) {
	for place, g := range t.file.RowGroups() {
		if n = int(g.NumRows()); row < first+n {
			return place, first, n
		}
		first += n
	}
	return 0, first, 0
}

// group reads the pictures of a column in a row group of n rows, of so many bytes by
// what the file says. One picture that fills many rows may be far more: that is an
// error, as is a row that has none.
func (t *Table) group(column string, place, n int, size int64) (list []picture, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	list = make([]picture, n)
	leaves, paths := t.leaves(column)
	for k, leaf := range leaves {
		name := paths[k][len(paths[k])-1]
		if len(paths[k]) == 2 && name != "bytes" && name != "path" {
			continue
		}
		if err := t.check(chunkOf{place, leaf}); err != nil {
			return nil, err
		}
		row, left := 0, 2*size
		err := chunkValues(t.file.RowGroups()[place].ColumnChunks()[leaf], func(v parquet.Value) error {
			if left -= int64(len(v.ByteArray())); row >= n || left < 0 {
				return errNull
			}
			switch {
			case v.IsNull():
			case name == "path":
				list[row].path = string(v.ByteArray())
			default:
				list[row].bytes = slices.Clone(v.ByteArray())
			}
			row++
			return nil
		})
		if err == nil && row != n {
			err = fmt.Errorf("%d rows of %d", row, n)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}
