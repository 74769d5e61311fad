package data

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A split as data.split names it: splits of the data set or parts of them, as
// TFDS writes them, joined by +:
//
//	train    train[:90%]    train[90%:]    train[10:20]    train[-5:]    train[:2shard]    train[:80%]+val
//
// A bound is a number of episodes, a percentage of them rounded to nearest
// (halves to even, as TFDS does), or a number of shards; a negative one counts
// from the end.

var splitPart = regexp.MustCompile(`^([^\[\]+\s]+)(?:\[\s*(?:(-?\d+)(%|shard)?)?\s*:\s*(?:(-?\d+)(%|shard)?)?\s*\])?$`)

// rldsShard is one file, the number of episodes it must hold, and which of them
// belong to the split: from ≤ i < to.
type rldsShard struct {
	file     string
	episodes int
	from, to int
}

// chosen is a part of a split: episodes from ≤ e < to of it.
type chosen struct {
	split    *rldsSplit
	shards   []rldsShard // all of the split
	total    int
	from, to int
}

// choose resolves data.split. label is its canonical form, the same for all
// ways to write the same episodes.
func (in *rldsInfo) choose(dir, spec string) (parts []chosen, label string, err error) {
	var labels []string
	for _, text := range strings.Split(spec, "+") {
		text = strings.TrimSpace(text)
		m := splitPart.FindStringSubmatch(text)
		if m == nil {
			return nil, "", keyError("data.split", "data.split is %q; want the name of a split, or a part of one such as train[:90%%], train[10:20], train[-5:] or train[:80%%]+val", spec)
		}
		i := slices.IndexFunc(in.Splits, func(s rldsSplit) bool { return s.Name == m[1] })
		if i < 0 {
			return nil, "", keyError("data.split", "data.split is %q; %s names the splits %s", spec, in.file, strings.Join(in.names(), ", "))
		}
		c := chosen{split: &in.Splits[i]}
		if c.shards, err = c.split.shards(dir, in.Name); err != nil {
			return nil, "", fmt.Errorf("%s: split %s: %w", in.file, c.split.Name, err)
		}
		if len(c.shards) == 0 {
			return nil, "", fmt.Errorf("%s: split %s has no shards", in.file, c.split.Name)
		}
		for _, s := range c.shards {
			c.total += s.episodes
		}
		c.to = c.total
		for k, to := range []*int{&c.from, &c.to} {
			if b, unit := m[2+2*k], m[3+2*k]; b != "" {
				if *to, err = c.bound(b, unit); err != nil {
					return nil, "", keyError("data.split", "data.split %q: %w", text, err)
				}
			}
		}
		if c.from >= c.to && (c.total > 0 || strings.Contains(text, "[")) {
			return nil, "", keyError("data.split", "data.split %q has no episodes: it is %d to %d of the %d of split %s", text, c.from, c.to, c.total, c.split.Name)
		}
		for _, p := range parts {
			if p.split == c.split && p.from < c.to && c.from < p.to {
				return nil, "", keyError("data.split", "data.split %q has some episodes of split %s twice", spec, c.split.Name)
			}
		}
		parts = append(parts, c)
		if c.from == 0 && c.to == c.total {
			labels = append(labels, c.split.Name)
		} else {
			labels = append(labels, fmt.Sprintf("%s[%d:%d]", c.split.Name, c.from, c.to))
		}
	}
	return parts, strings.Join(labels, "+"), nil
}

// bound is the episode that a bound of a part names.
func (c *chosen) bound(text, unit string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, err
	}
	most, what := c.total, "episodes"
	switch unit {
	case "%":
		most, what = 100, "percent"
	case "shard":
		most, what = len(c.shards), "shards"
	}
	if n < -most || n > most {
		return 0, fmt.Errorf("%s is out of range: split %s has %d %s", text+unit, c.split.Name, most, what)
	}
	if n < 0 {
		n += most
	}
	switch unit {
	case "%":
		return int(math.RoundToEven(float64(n) * float64(c.total) / 100)), nil
	case "shard":
		at := 0
		for _, s := range c.shards[:n] {
			at += s.episodes
		}
		return at, nil
	}
	return n, nil
}

// files are the shards that hold some of the part's episodes, and which.
func (c *chosen) files() (out []rldsShard) {
	first := 0
	for _, s := range c.shards {
		from, to := max(c.from-first, 0), min(c.to-first, s.episodes)
		first += s.episodes
		if from < to || s.episodes == 0 && c.from == 0 && c.to == c.total {
			s.from, s.to = from, to
			out = append(out, s)
		}
	}
	return out
}

// shards lists a split's files by its list of lengths.
func (s *rldsSplit) shards(dir, name string) ([]rldsShard, error) {
	if len(s.Lengths) > 99999 {
		return nil, fmt.Errorf("%d shards", len(s.Lengths))
	}
	var out []rldsShard
	for i, l := range s.Lengths {
		n, err := strconv.Atoi(string(l))
		if err != nil || n < 0 || n > maxSamples {
			return nil, fmt.Errorf("shardLengths[%d] is %q, expected a number of episodes: the writer of the data set did not finish; write it again, or put in how many episodes the shard has", i, l)
		}
		file, err := s.fileName(name, fmt.Sprintf("%05d", i), fmt.Sprintf("%05d", len(s.Lengths)))
		if err != nil {
			return nil, err
		}
		out = append(out, rldsShard{file: filepath.Join(dir, file), episodes: n, to: n})
	}
	return out, nil
}

func (s *rldsSplit) fileName(name, index, count string) (string, error) {
	template := s.Template
	if template == "" {
		template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
	}
	file := strings.NewReplacer("{DATASET}", name, "{SPLIT}", s.Name, "{FILEFORMAT}", "tfrecord",
		"{SHARD_X_OF_Y}", index+"-of-"+count, "{SHARD_INDEX}", index, "{NUM_SHARDS}", count).Replace(template)
	if strings.ContainsAny(file, "{}") || !filepath.IsLocal(file) || filepath.Base(file) != file {
		return "", fmt.Errorf("filepathTemplate %q gives the file name %q, which is not a plain name", template, file)
	}
	return file, nil
}

// compare looks for a split's files in the folder's list of names: which are
// not there, and which are there though the list of shards does not have them.
// counts are the numbers of shards that those say, ascending.
func (c *chosen) compare(name string, there []string) (missing, extra []string, counts []int) {
	const index, count = "7777777", "8888888" // digits that no file has
	pattern, err := c.split.fileName(name, index, count)
	if err != nil {
		return nil, nil, nil
	}
	const number = `(\d{5,})`
	re := regexp.MustCompile("^" + strings.NewReplacer(index, number, count, number).Replace(regexp.QuoteMeta(pattern)) + "$")
	listed := map[string]bool{}
	for _, s := range c.shards {
		listed[filepath.Base(s.file)] = true
	}
	for _, s := range c.files() {
		if base := filepath.Base(s.file); !slices.Contains(there, base) {
			missing = append(missing, base)
		}
	}
	for _, f := range there {
		m := re.FindStringSubmatch(f)
		if m == nil || listed[f] {
			continue
		}
		extra = append(extra, f)
		if n, err := strconv.Atoi(m[len(m)-1]); err == nil && n != len(c.shards) && strings.Contains(pattern, count) && !slices.Contains(counts, n) {
			counts = append(counts, n)
		}
	}
	slices.Sort(counts)
	return missing, extra, counts
}

// inFolder refuses parts whose files are not in the folder, and tells of files
// that look like theirs and are not listed. absent leaves it to the reader of
// each file to find that it is not there.
func (o *Opening) inFolder(in *rldsInfo, dir string, parts []chosen, absent bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var there []string
	for _, e := range entries {
		there = append(there, e.Name())
	}
	seen := map[*rldsSplit]bool{}
	for _, c := range parts {
		missing, extra, counts := c.compare(in.Name, there)
		split := c.split.Name
		switch {
		case len(missing) == 0 || absent:
			if len(extra) > 0 && !seen[c.split] {
				o.find("unused_shards", in.file, "remove them if they are left from another version, or get the dataset_info.json that lists them",
					"%s %s not used: %d shards of split %s are listed (shardLengths)", some(extra, len(extra), 3), isAre(len(extra)), len(c.shards), split)
			}
			seen[c.split] = true
		case len(counts) > 0 && len(missing) == len(c.files()):
			return missingFile{fmt.Sprintf("%s lists %d shards of split %s (shardLengths), the files in the folder are of %s (%s): they are of different versions; get dataset_info.json and the shards from one place, or correct shardLengths",
				in.file, len(c.shards), split, numbers(counts), some(extra, len(extra), 3))}
		default:
			text := fmt.Sprintf("split %s: %d of its %d shards are not in %s, though dataset_info.json lists them: %s", split, len(missing), len(c.files()), dir, some(missing, len(missing), 3))
			if len(extra) > 0 {
				text += fmt.Sprintf("; %s %s there and not listed", some(extra, len(extra), 3), isAre(len(extra)))
			}
			return missingFile{text + fmt.Sprintf("; download them again, or set data.split (splits whose files are all there: %s)", listOr(in.complete(dir, there), "none"))}
		}
	}
	return nil
}

// complete are the splits whose files are all in the folder.
func (in *rldsInfo) complete(dir string, there []string) (out []string) {
	for i := range in.Splits {
		c := chosen{split: &in.Splits[i]}
		var err error
		if c.shards, err = c.split.shards(dir, in.Name); err != nil || len(c.shards) == 0 {
			continue
		}
		for _, s := range c.shards {
			c.total += s.episodes
		}
		c.to = c.total
		if missing, _, _ := c.compare(in.Name, there); len(missing) == 0 {
			out = append(out, c.split.Name)
		}
	}
	return out
}

func (in *rldsInfo) names() (out []string) {
	for _, s := range in.Splits {
		out = append(out, s.Name)
	}
	return out
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func numbers(n []int) string {
	var out []string
	for _, x := range n {
		out = append(out, strconv.Itoa(x))
	}
	return strings.Join(out, " and of ")
}

// rldsDir finds dataset_info.json in dir or in its only sub-folder that has
// one, two levels down at most (data set / version).
func rldsDir(dir string) (string, error) {
	if info, err := os.Stat(dir); err != nil {
		return "", err
	} else if !info.IsDir() {
		return "", fmt.Errorf("%s is not a folder; data.path of an RLDS data set is the one with dataset_info.json", dir)
	}
	level := []string{dir}
	for range 3 {
		var found, next []string
		for _, d := range level {
			if _, err := os.Stat(filepath.Join(d, "dataset_info.json")); err == nil {
				found = append(found, d)
			}
			entries, err := os.ReadDir(d)
			if err != nil {
				if d == dir {
					return "", err
				}
				continue // not ours to look into
			}
			for _, e := range entries {
				if sub := filepath.Join(d, e.Name()); e.IsDir() || e.Type()&fs.ModeSymlink != 0 && isDir(sub) {
					next = append(next, sub)
				}
			}
		}
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return "", fmt.Errorf("%s has several data sets or versions; set data.path to one of %s", dir, some(found, len(found), 3))
		}
		level = next
	}
	s := fmt.Sprintf("%s has no dataset_info.json, and no folder in it has one: not an RLDS data set", dir)
	if _, err := os.Stat(filepath.Join(dir, ManifestName)); err == nil {
		s += "; it has a " + ManifestName + ", which data.kind: folder reads"
	}
	return "", missingFile{s}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
