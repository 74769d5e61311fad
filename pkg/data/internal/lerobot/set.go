package lerobot

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
)

// Set is what a data set says of itself.
type Set struct {
	Dir      string
	Info     *Info
	Episodes []Episode // ascending
	Tasks    map[int64]string
}

// Episode is one recording.
type Episode struct {
	Index  int64
	Length int
	Path   string // of the table that it is in, below Dir
}

// Bounds of what a data set may say.
const (
	maxEpisodes = 1 << 24
	maxTask     = 1 << 16 // bytes of an instruction
)

// Open reads what the data set in dir says of itself.
func Open(dir string) (*Set, error) {
	in, err := readInfo(dir)
	if err != nil {
		return nil, err
	}
	s := &Set{Dir: dir, Info: in, Tasks: map[int64]string{}}
	if in.v3() {
		err = errors.Join(s.readTasks(), s.readEpisodes())
	} else {
		err = errors.Join(s.readTaskLines(), s.readEpisodeLines())
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s.Episodes, func(a, b Episode) int { return int(a.Index - b.Index) })
	for i, e := range s.Episodes {
		if i > 0 && s.Episodes[i-1].Index == e.Index {
			return nil, fmt.Errorf("%s: episode %d stands twice in its list of episodes", dir, e.Index)
		}
	}
	if len(s.Episodes) == 0 {
		return nil, fmt.Errorf("%s: its list of episodes is empty", dir)
	}
	return s, nil
}

// Split is the episodes of a split: train, or all where the data set knows no splits.
func (s *Set) Split(name string) ([]Episode, error) {
	splits := s.Info.Splits
	if len(splits) == 0 && name == "train" {
		return s.Episodes, nil
	}
	text, ok := splits[name]
	if !ok {
		var names []string
		for n := range splits {
			names = append(names, n)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("split %q is not in %s; it has %s", name, InfoFile, strings.Join(names, ", "))
	}
	from, to, ok := strings.Cut(text, ":")
	lo, err := strconv.ParseInt(strings.TrimSpace(from), 10, 64)
	hi, err2 := strconv.ParseInt(strings.TrimSpace(to), 10, 64)
	if !ok || err != nil || err2 != nil || lo > hi {
		return nil, fmt.Errorf("%s: split %s is %q; want episodes from:to", InfoFile, name, text)
	}
	var l []Episode
	for _, e := range s.Episodes {
		if e.Index >= lo && e.Index < hi {
			l = append(l, e)
		}
	}
	return l, nil
}

// lines hands the lines of a file of JSON objects to use.
func (s *Set) lines(name string, use func(b []byte) error) error {
	path := filepath.Join(s.Dir, name)
	b, err := regular.Read(path, MaxInfo)
	if err != nil {
		return err
	}
	r := bufio.NewScanner(bytes.NewReader(b))
	r.Buffer(nil, 16<<20)
	for line := 1; r.Scan(); line++ {
		if len(bytes.TrimSpace(r.Bytes())) == 0 {
			continue
		}
		if err := use(r.Bytes()); err != nil {
			return fmt.Errorf("%s:%d: %v", path, line, err)
		}
	}
	return r.Err()
}

func (s *Set) readTaskLines() error {
	return s.lines("meta/tasks.jsonl", func(b []byte) error {
		var t struct {
			Index *int64 `json:"task_index"`
			Task  string `json:"task"`
		}
		if err := json.Unmarshal(b, &t); err != nil {
			return err
		}
		if t.Index == nil {
			return errors.New("it has no task_index")
		}
		return s.task(*t.Index, t.Task)
	})
}

func (s *Set) task(i int64, text string) error {
	if len(text) > maxTask {
		return fmt.Errorf("task %d has %d bytes; at most %d are read", i, len(text), maxTask)
	}
	if was, ok := s.Tasks[i]; ok && was != text {
		return fmt.Errorf("task %d is %.80q and %.80q", i, was, text)
	}
	s.Tasks[i] = text
	return nil
}

func (s *Set) readEpisodeLines() error {
	size := max(s.Info.ChunkSize, 1)
	return s.lines("meta/episodes.jsonl", func(b []byte) error {
		var e struct {
			Index  *int64 `json:"episode_index"`
			Length int    `json:"length"`
		}
		if err := json.Unmarshal(b, &e); err != nil {
			return err
		}
		if e.Index == nil {
			return errors.New("it has no episode_index")
		}
		path, err := expand(s.Info.Data, map[string]any{"episode_chunk": int(*e.Index) / size, "episode_index": int(*e.Index)})
		if err != nil {
			return fmt.Errorf("%s: data_path: %w", InfoFile, err)
		}
		return s.episode(Episode{*e.Index, e.Length, path})
	})
}

func (s *Set) episode(e Episode) error {
	switch {
	case e.Index < 0 || e.Length < 0:
		return fmt.Errorf("episode %d has %d frames", e.Index, e.Length)
	case len(s.Episodes) >= maxEpisodes:
		return fmt.Errorf("more than %d episodes", maxEpisodes)
	}
	s.Episodes = append(s.Episodes, e)
	return nil
}

// readTasks reads meta/tasks.parquet: a pandas frame whose index is the text. So
// the texts stand in a column called task, or __index_level_0__, or as the index was
// called: the only column of texts.
func (s *Set) readTasks() error {
	t, err := s.Table("meta/tasks.parquet")
	if err != nil {
		return err
	}
	defer t.Close()
	column := "task"
	for _, name := range append([]string{"__index_level_0__"}, t.texts()...) {
		if !t.Has(column) {
			column = name
		}
	}
	texts, err := t.Strings(column)
	if err != nil {
		return err
	}
	numbers, err := t.Ints("task_index")
	if err != nil {
		return err
	}
	for i, text := range texts {
		if err := s.task(numbers[i], text); err != nil {
			return fmt.Errorf("%s: %w", t.path, err)
		}
	}
	return nil
}

// readEpisodes reads the tables of episodes.
func (s *Set) readEpisodes() error {
	return s.episodeTables(s.readEpisodeTable)
}

// episodeTables hands the tables of episodes to read.
func (s *Set) episodeTables(read func(t *Table) error) error {
	var files []string
	root := filepath.Join(s.Dir, "meta", "episodes")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".parquet") {
			files = append(files, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s: it has no list of episodes (meta/episodes/*/*.parquet)", s.Dir)
	}
	for _, path := range files {
		rel, err := filepath.Rel(s.Dir, path)
		if err != nil {
			return err
		}
		t, err := s.Table(rel)
		if err != nil {
			return err
		}
		if err := errors.Join(read(t), t.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) readEpisodeTable(t *Table) (err error) {
	columns := map[string][]int64{}
	for _, c := range []string{"episode_index", "length", "data/chunk_index", "data/file_index"} {
		if columns[c], err = t.Ints(c); err != nil {
			return err
		}
	}
	for i, n := range columns["episode_index"] {
		path, err := expand(s.Info.Data, map[string]any{"chunk_index": int(columns["data/chunk_index"][i]), "file_index": int(columns["data/file_index"][i])})
		if err != nil {
			return fmt.Errorf("%s: data_path: %w", InfoFile, err)
		}
		if err := s.episode(Episode{n, int(columns["length"][i]), path}); err != nil {
			return fmt.Errorf("%s: %w", t.path, err)
		}
	}
	return nil
}
