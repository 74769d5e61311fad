package cli

import (
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/pkg/data"
)

// scanDir is where the user's programs keep what they found in the files of data
// sets: the user's cache, which all runs, workers and commands on a machine share,
// and not the data's own directory, which is often read-only or another's. It is
// nil where there is no such place.
func scanDir() *data.ScanDir {
	dir := cacheDir()
	if dir == "" {
		return nil
	}
	return &data.ScanDir{Dir: filepath.Join(dir, "scans"), Least: data.LeastScan}
}

// cacheDir is where the user's programs keep what can be made again; empty where
// there is no such place.
func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "vlaring")
}
