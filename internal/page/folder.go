package page

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/run"
)

// How far a folder is searched for runs.
const (
	searchDepth   = 4
	searchEntries = 50_000
	maxRuns       = 2000
)

// place is where a run's directory is: name below root, a given folder.
type spot struct {
	id   string // unique on the page, and its name there
	dir  string // the given folder
	name string // below it, with slashes; . for itself
}

// path is where the run is on this machine.
func (p spot) path() string { return filepath.Join(p.dir, filepath.FromSlash(p.name)) }

// open opens the run's directory. What is opened below it stays below it, links included.
func (p spot) open() (*os.Root, error) {
	top, err := os.OpenRoot(p.dir)
	if err != nil || p.name == "." {
		return top, err
	}
	defer top.Close()
	return top.OpenRoot(filepath.FromSlash(p.name))
}

// search finds the runs in dirs, and says what it passed over. A directory is a run
// where it has what a run leaves, and is not searched any further. A link that leads
// out of its folder is not followed.
func search(dirs []string) (found []spot, notes []string) {
	taken := map[string]bool{}
	for _, dir := range dirs {
		names, said, err := searchOne(dir)
		notes = append(notes, said...)
		if err != nil {
			notes = append(notes, err.Error())
			continue
		}
		for _, name := range names {
			id := name
			if name == "." {
				id = filepath.Base(absolute(dir))
			}
			for n := 2; taken[id]; n++ {
				id = fmt.Sprintf("%s (%d)", name, n)
				if name == "." {
					id = fmt.Sprintf("%s (%d)", filepath.Base(absolute(dir)), n)
				}
			}
			taken[id] = true
			found = append(found, spot{id, dir, name})
		}
	}
	if len(found) > maxRuns {
		notes = append(notes, fmt.Sprintf("%d runs are there; the first %d are shown", len(found), maxRuns))
		found = found[:maxRuns]
	}
	return found, notes
}

func absolute(dir string) string {
	if a, err := filepath.Abs(dir); err == nil {
		return a
	}
	return dir
}

func searchOne(dir string) (names, notes []string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	left := searchEntries
	var walk func(name string, depth int)
	walk = func(name string, depth int) {
		if isRun(root, name) {
			names = append(names, name)
			return
		}
		entries, err := fs.ReadDir(root.FS(), name)
		if err != nil {
			notes = append(notes, err.Error())
			return
		}
		for _, e := range entries {
			if left--; left < 0 || depth == searchDepth {
				return
			}
			to := path.Join(name, e.Name())
			switch {
			case strings.HasPrefix(e.Name(), "."):
			case e.IsDir():
				walk(to, depth+1)
			case e.Type()&fs.ModeSymlink != 0:
				i, err := os.Stat(filepath.Join(dir, filepath.FromSlash(to)))
				if err == nil && i.IsDir() {
					if _, err := root.Stat(filepath.FromSlash(to)); err != nil { // else it is found where it leads
						notes = append(notes, fmt.Sprintf("%s is a link that leads out of %s and is not followed; name it, too: coordinator ui %s %s", to, dir, dir, filepath.Join(dir, filepath.FromSlash(to))))
					}
				}
			}
		}
	}
	walk(".", 0)
	if left < 0 {
		notes = append(notes, fmt.Sprintf("%s has very many files: it is searched no further than the first %d", dir, searchEntries))
	}
	slices.Sort(names)
	return names, notes, nil
}

// isRun says whether a directory below root is a run's.
func isRun(root *os.Root, name string) bool {
	for _, file := range []string{run.MetricsFile, run.OriginFile} {
		if i, err := root.Stat(filepath.Join(filepath.FromSlash(name), file)); err == nil && i.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// checkDirs refuses folders that are not there, before anything is served.
func checkDirs(dirs []string) error {
	for _, dir := range dirs {
		i, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return usage.Errorf("there is no folder %s: give a run directory, or a folder of them, such as runs/", dir)
		case err != nil:
			return err
		case !i.IsDir():
			return usage.Errorf("%s is a file: give a run directory, or a folder of them, such as runs/", dir)
		}
	}
	return nil
}
