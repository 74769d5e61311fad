package lerobot

import (
	"bytes"
	"path/filepath"
	"sync"
	"testing"
)

// Pictures that are kept are those that are read one by one, whatever leaves the
// memory on the way and whoever else reads.
func TestPicturesKept(t *testing.T) {
	for _, form := range []string{"v3", "v21"} {
		dir := filepath.Join("..", "..", "testdata", "lerobot", form)
		set, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, most := range []int64{0, 1, 4000} {
			kept := &Pictures{most: most}
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					for _, e := range set.Episodes {
						tab, err := set.Table(e.Path)
						if err != nil {
							t.Error(err)
							return
						}
						defer tab.Close()
						for row := range tab.Rows() {
							for _, column := range []string{"observation.images.front", "observation.images.wrist"} {
								want, where, err := tab.Picture(column, row)
								got, path, err2 := kept.Picture(tab, column, row)
								if err != nil || err2 != nil || len(want) == 0 || !bytes.Equal(got, want) || path != where {
									t.Errorf("%s row %d of %s: %d bytes, %q, %v; want %d, %q, %v", e.Path, row, column, len(got), path, err2, len(want), where, err)
								}
							}
						}
						if _, _, err := kept.Picture(tab, "observation.images.front", tab.Rows()); err == nil {
							t.Error("a row that is not there has a picture")
						}
					}
				})
			}
			all.Wait()
			if n := int64(0); most > 0 {
				for _, g := range kept.groups {
					n += g.size
				}
				if n != kept.held || len(kept.groups) > 1 && n > most {
					t.Errorf("%d groups of %d bytes are kept, %d are counted, at most %d are to be", len(kept.groups), n, kept.held, most)
				}
			} else if len(kept.groups) < 2 {
				t.Errorf("%d groups are kept", len(kept.groups))
			}
		}
	}
}
