package convert

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/parquet-go/parquet-go"
)

// The form that is written: LeRobot 3.0, its pictures in the tables.
//
//	meta/info.json    meta/stats.json    meta/tasks.parquet
//	meta/episodes/chunk-000/file-000.parquet
//	data/chunk-000/file-000.parquet        a row group an episode
//
// Every leaf is optional, vectors are lists and pictures a struct of bytes and
// path, as LeRobot's own writer has them. Names of columns have slashes.
const (
	maxDataFile = 100 << 20 // bytes, from which on the next episode has a new file
	chunkFiles  = 1000
)

// vector is a list of dim numbers, or one number.
func vector(dim int, leaf parquet.Node) parquet.Node {
	if dim == 1 {
		return parquet.Optional(leaf)
	}
	return parquet.Optional(parquet.List(parquet.Optional(leaf)))
}

// listed are the values of a list's leaf.
func listed(n int, at func(i int) parquet.Value) []parquet.Value {
	out := make([]parquet.Value, n)
	for i := range out {
		out[i] = at(i).Level(min(i, 1), 3, 0)
	}
	return out
}

var (
	float32s = parquet.Leaf(parquet.FloatType)
	int64s   = parquet.Leaf(parquet.Int64Type)
)

// table writes rows of named columns as parquet.
type table struct {
	w     *parquet.GenericWriter[any]
	order []string // of the columns in the file
}

func newTable(out io.Writer, columns map[string]parquet.Node, about map[string]string) *table {
	g := parquet.Group{}
	maps.Copy(g, columns)
	schema := parquet.NewSchema("schema", g)
	options := []parquet.WriterOption{schema, parquet.Compression(&parquet.Snappy), parquet.CreatedBy("vlaring", "", "")}
	for k, v := range about {
		options = append(options, parquet.KeyValueMetadata(k, v))
	}
	t := &table{w: parquet.NewGenericWriter[any](out, options...)}
	for _, f := range schema.Fields() {
		t.order = append(t.order, f.Name())
	}
	return t
}

// row writes a row: of each column the values of its leaves, whose levels are set.
func (t *table) row(of map[string][][]parquet.Value) error {
	var row parquet.Row
	leaf := 0
	for _, name := range t.order {
		for _, values := range of[name] {
			for _, v := range values {
				row = append(row, v.Level(v.RepetitionLevel(), v.DefinitionLevel(), leaf))
			}
			leaf++
		}
	}
	_, err := t.w.WriteRows([]parquet.Row{row})
	return err
}

// one is a column of one value in a row.
func one(v parquet.Value) [][]parquet.Value { return [][]parquet.Value{{v.Level(0, 1, 0)}} }

// lerobot writes a data set, an episode after the other.
type lerobot struct {
	dir   string
	fps   float64
	robot string
	most  int64 // bytes of a table
	keep  func(any) error
	kept  map[string]int // rows of the statistics' columns that the parts have
	parts int            // tables that were resumed

	tasksKept, episodesKept int // of what follows, by the parts

	first    *frame // tells the features
	tasks    []string
	taskAt   map[string]int64
	episodes []episode
	seen     map[string]int // what the source calls an episode → its index
	frames   int64
	stats    map[string]*statistics

	file    *os.File // of the table that is being written
	table   *table
	out     *counted
	files   int // begun
	current *episode
}

// episode is a line of the list of episodes.
type episode struct {
	called   string
	tasks    []string
	from, to int64
	file     int
	last     *int64 // number of the last frame, where the source has one
}

// lerobotPart is what a table that is whole adds.
type lerobotPart struct {
	Tasks    []string // new ones
	Episodes []episodePart
	Stats    map[string]statisticsPart
}

type episodePart struct {
	Called   string
	Tasks    []string
	From, To int64
	File     int
}

// statisticsPart is what a part adds to the columns, and the counts so far.
type statisticsPart struct {
	Columns [][]float64
	Counts  *[3][256]uint64
	Looked  int
}

// part is what the tables have that no part has had.
func (l *lerobot) part(tasks, episodes int) lerobotPart {
	p := lerobotPart{Tasks: l.tasks[tasks:], Stats: map[string]statisticsPart{}}
	for _, e := range l.episodes[episodes:] {
		p.Episodes = append(p.Episodes, episodePart{e.called, e.tasks, e.from, e.to, e.file})
	}
	for name, s := range l.stats {
		p.Stats[name] = statisticsPart{tails(s.columns, l.kept[name]), s.counts, s.looked}
		if len(s.columns) > 0 {
			l.kept[name] = len(s.columns[0])
		}
	}
	return p
}

// resume goes on behind the tables of the parts.
func (l *lerobot) resume(parts [][]byte) error {
	for _, b := range parts {
		var p lerobotPart
		if err := decoded(b, &p); err != nil {
			return err
		}
		for _, t := range p.Tasks {
			l.taskAt[t], l.tasks = int64(len(l.tasks)), append(l.tasks, t)
		}
		for _, e := range p.Episodes {
			l.seen[e.Called], l.frames = len(l.episodes), e.To
			l.episodes = append(l.episodes, episode{called: e.Called, tasks: e.Tasks, from: e.From, to: e.To, file: e.File})
		}
		for name, part := range p.Stats {
			s := l.stat(name)
			if s.columns == nil {
				s.columns = make([][]float64, len(part.Columns))
			}
			for i, c := range part.Columns {
				s.columns[i] = append(s.columns[i], c...)
			}
			if len(s.columns) > 0 {
				l.kept[name] = len(s.columns[0])
			}
			s.counts, s.looked = part.Counts, part.Looked
		}
		if _, err := os.Stat(filepath.Join(l.dir, dataFile(l.parts))); err != nil {
			return fmt.Errorf("%w: a table that was written; --afresh begins anew", err)
		}
		l.parts++
	}
	l.files = l.parts
	l.tasksKept, l.episodesKept = len(l.tasks), len(l.episodes)
	return nil
}

// own is sink's: the tables of the parts.
func (l *lerobot) own(rel string) bool {
	for n := range l.parts {
		if rel == dataFile(n) {
			return true
		}
	}
	return false
}

// dataFile is table n of the data.
func dataFile(n int) string {
	return fmt.Sprintf("data/chunk-%03d/file-%03d.parquet", n/chunkFiles, n%chunkFiles)
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func newLeRobot(dir string, o Options, keep func(any) error) *lerobot {
	most := int64(cmp.Or(o.partBytes, maxDataFile))
	return &lerobot{dir: dir, fps: o.FPS, robot: o.Robot, most: most, keep: keep, kept: map[string]int{}, taskAt: map[string]int64{}, seen: map[string]int{}, stats: map[string]*statistics{}}
}

// start is sink's.
func (l *lerobot) start(f frame) error {
	if l.fps == 0 {
		l.fps = f.fps
	}
	if l.fps <= 0 || l.fps != l.fps || l.fps > 10000 {
		return fmt.Errorf("how many frames a second the data has is not known: give it by --fps")
	}
	l.first = &f
	return nil
}

// add appends a frame. Those of an episode stand together.
func (l *lerobot) add(f frame) error {
	if l.current == nil || l.current.called != f.episode {
		if err := l.begin(f); err != nil {
			return err
		}
	}
	e := l.current
	if f.number != nil {
		if e.last != nil && *f.number <= *e.last {
			return fmt.Errorf("it is frame %d of episode %s and follows frame %d; frames stand in their order", *f.number, f.episode, *e.last)
		}
		e.last = f.number
	}
	if !slices.Contains(e.tasks, f.task) {
		e.tasks = append(e.tasks, f.task)
	}
	task, ok := l.taskAt[f.task]
	if !ok {
		task = int64(len(l.tasks))
		l.tasks, l.taskAt[f.task] = append(l.tasks, f.task), task
	}
	frame := l.frames - e.from
	row := map[string][][]parquet.Value{
		"timestamp":     one(parquet.FloatValue(float32(float64(frame) / l.fps))),
		"frame_index":   one(parquet.Int64Value(frame)),
		"episode_index": one(parquet.Int64Value(int64(len(l.episodes)))),
		"index":         one(parquet.Int64Value(l.frames)),
		"task_index":    one(parquet.Int64Value(task)),
	}
	for name, p := range f.pictures {
		path := fmt.Sprintf("frame-%06d%s", frame, p.ext())
		row[name] = [][]parquet.Value{{parquet.ByteArrayValue(p.file).Level(0, 2, 0)}, {parquet.ByteArrayValue([]byte(path)).Level(0, 2, 0)}}
		if frame%pictureStride == 0 {
			if err := l.stat(name).picture(p); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for name, n := range f.numbers {
		at := func(i int) parquet.Value { return parquet.FloatValue(n.floats[i]) }
		if n.whole != nil {
			at = func(i int) parquet.Value { return parquet.Int64Value(n.whole[i]) }
		}
		if row[name] = one(at(0)); n.len() > 1 {
			row[name] = [][]parquet.Value{listed(n.len(), at)}
		}
		l.stat(name).numbers(n)
	}
	l.frames++
	return l.table.row(row)
}

func (l *lerobot) stat(name string) *statistics {
	if l.stats[name] == nil {
		l.stats[name] = &statistics{}
	}
	return l.stats[name]
}

// begin begins the episode of f, after the end of the one before.
func (l *lerobot) begin(f frame) error {
	if err := l.end(); err != nil {
		return err
	}
	if i, again := l.seen[f.episode]; again {
		return fmt.Errorf("episode %s comes again, and was written as episode %d: the frames of an episode must stand together, so sort the shards by episode and frame", f.episode, i)
	}
	l.seen[f.episode] = len(l.episodes)
	if l.table == nil || l.out.n >= l.most {
		if err := l.close(); err != nil {
			return err
		}
		if l.table != nil { // it is whole
			l.file = nil
			if err := syncUp(filepath.Dir(filepath.Join(l.dir, dataFile(l.files-1))), l.dir); err != nil {
				return err
			}
			if err := l.keep(l.part(l.tasksKept, l.episodesKept)); err != nil {
				return err
			}
			l.tasksKept, l.episodesKept = len(l.tasks), len(l.episodes)
		}
		path := filepath.Join(l.dir, filepath.FromSlash(dataFile(l.files)))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		columns := map[string]parquet.Node{"timestamp": parquet.Optional(float32s)}
		for _, name := range wholeColumns {
			columns[name] = parquet.Optional(int64s)
		}
		for name := range l.first.pictures {
			columns[name] = parquet.Optional(parquet.Group{"bytes": parquet.Optional(parquet.Leaf(parquet.ByteArrayType)), "path": parquet.Optional(parquet.String())})
		}
		for name, n := range l.first.numbers {
			leaf := float32s
			if n.whole != nil {
				leaf = int64s
			}
			columns[name] = vector(n.len(), leaf)
		}
		about, err := l.huggingface()
		if err != nil {
			return err
		}
		l.file, l.out, l.files = file, &counted{w: file}, l.files+1
		l.table = newTable(l.out, columns, map[string]string{"huggingface": about})
	}
	l.current = &episode{called: f.episode, from: l.frames, file: l.files - 1}
	return nil
}

// end ends the episode, whose rows become a group of their own.
func (l *lerobot) end() error {
	if l.current == nil {
		return nil
	}
	l.current.to = l.frames
	l.episodes, l.current = append(l.episodes, *l.current), nil
	return l.table.w.Flush()
}

// close ends the table that is being written.
func (l *lerobot) close() error {
	if l.table == nil {
		return nil
	}
	return finish(l.table, l.file)
}

// finish ends a table and brings it to the disk.
func finish(t *table, f *os.File) error {
	err := t.w.Close()
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// finish writes what describes the tables.
func (l *lerobot) finish() error {
	if err := l.end(); err != nil {
		return err
	}
	if err := l.close(); err != nil {
		return err
	}
	l.file = nil
	text := parquet.String()
	err := l.write("meta/tasks.parquet", map[string]parquet.Node{"task_index": parquet.Optional(int64s), "__index_level_0__": parquet.Optional(text)},
		map[string]string{"pandas": pandasIndex}, len(l.tasks), func(i int) map[string][][]parquet.Value {
			return map[string][][]parquet.Value{"task_index": one(parquet.Int64Value(int64(i))), "__index_level_0__": one(parquet.ByteArrayValue([]byte(l.tasks[i])))}
		})
	if err != nil {
		return err
	}
	columns := map[string]parquet.Node{"tasks": parquet.Optional(parquet.List(parquet.Optional(text)))}
	for _, name := range []string{"episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index", "meta/episodes/chunk_index", "meta/episodes/file_index"} {
		columns[name] = parquet.Optional(int64s)
	}
	err = l.write("meta/episodes/chunk-000/file-000.parquet", columns, nil, len(l.episodes), func(i int) map[string][][]parquet.Value {
		e := l.episodes[i]
		row := map[string][][]parquet.Value{"tasks": {listed(len(e.tasks), func(i int) parquet.Value { return parquet.ByteArrayValue([]byte(e.tasks[i])) })}}
		for name, v := range map[string]int64{"episode_index": int64(i), "length": e.to - e.from, "data/chunk_index": int64(e.file / chunkFiles), "data/file_index": int64(e.file % chunkFiles),
			"dataset_from_index": e.from, "dataset_to_index": e.to, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0} {
			row[name] = one(parquet.Int64Value(v))
		}
		return row
	})
	if err != nil {
		return err
	}
	stats := map[string]any{}
	for name, s := range l.stats {
		stats[name] = s.json()
	}
	if err := writeJSON(filepath.Join(l.dir, "meta/stats.json"), stats); err != nil {
		return err
	}
	return writeJSON(filepath.Join(l.dir, "meta/info.json"), l.info())
}

// abandon lets go of the file that is open, after an error.
func (l *lerobot) abandon() {
	if l.file != nil {
		l.file.Close()
	}
}

// write writes a whole table.
func (l *lerobot) write(rel string, columns map[string]parquet.Node, about map[string]string, rows int, row func(i int) map[string][][]parquet.Value) error {
	path := filepath.Join(l.dir, rel)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	t := newTable(f, columns, about)
	for i := range rows {
		if err := t.row(row(i)); err != nil {
			f.Close()
			return err
		}
	}
	return finish(t, f)
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "    ")
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
