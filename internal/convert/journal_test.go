package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// treeOf is all files below dir, by path.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// threeShards are seven episodes of three frames, of which the second and the fourth go
// on in the next shard.
func threeShards(t *testing.T, dir string) (names []string, all []byte) {
	t.Helper()
	members := make([][]member, 3)
	for i := range 21 {
		shard := 0
		if i >= 5 {
			shard++
		}
		if i >= 11 {
			shard++
		}
		e := fmt.Sprintf("ep%d", i/3)
		members[shard] = append(members[shard], frameOf(e, i%3, fmt.Sprintf("%s/%04d", e, i%3))...)
	}
	for i, m := range members {
		names = append(names, filepath.Join(dir, fmt.Sprintf("s%d.tar", i)))
		write(t, names[i], shardOf(t, m...))
	}
	return names, shardOf(t, slices.Concat(members...)...)
}

// A conversion that is killed at any frame goes on behind what is done, over whatever it
// had half written, to the same bytes as one without a break: of both forms, of files and
// of a pipe.
func TestResume(t *testing.T) {
	for _, form := range []string{LeRobot, Folder} {
		for _, pipe := range []bool{false, true} {
			if form == Folder && pipe {
				continue
			}
			t.Run(fmt.Sprintf("%s/pipe=%v", form, pipe), func(t *testing.T) {
				dir := t.TempDir()
				names, all := threeShards(t, dir)
				out := filepath.Join(dir, "out")
				options := func() Options {
					o := Options{Shards: names, Out: out, Form: form, FPS: 10, partBytes: -1, partSamples: 4}
					if form == Folder { // it has a place for actions and state alone
						o.Shards = []string{filepath.Join(dir, "plain.tar")}
						var m []member
						for i := range 21 {
							m = append(m, member{fmt.Sprintf("ep%d/%d.png", i/3, i), pngOf(4, 4, byte(i))}, member{fmt.Sprintf("ep%d/%d.txt", i/3, i), []byte("go")}, member{fmt.Sprintf("ep%d/%d.mp4", i/3, i), nil})
						}
						all = shardOf(t, m...)
						write(t, o.Shards[0], all)
					}
					if pipe {
						o.Shards, o.Stdin = []string{"-"}, bytes.NewReader(all)
					}
					return o
				}
				work := workDir(out)
				var killed []map[string]string // what is on the disk at each frame
				o := options()
				o.Progress = func(int, int64, int64) { killed = append(killed, treeOf(t, work)) }
				whole, err := Run(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				want := treeOf(t, out)
				if _, err := os.Stat(work); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is left: %v", work, err)
				}
				resumed := 0
				for n, files := range killed {
					if n%3 != 1 && n > 7 { // each takes as long as a whole one
						continue
					}
					if err := os.RemoveAll(out); err != nil {
						t.Fatal(err)
					}
					files["set/meta/info.json"], files["set/image/009/009999.png"], files["set/data/chunk-000/file-099.parquet"] = "{", "half", "PAR1" // and more that is half written
					for rel, body := range files {
						os.MkdirAll(filepath.Dir(filepath.Join(work, rel)), 0o755)
						write(t, filepath.Join(work, rel), []byte(body))
					}
					r, err := Run(context.Background(), options())
					if err != nil {
						t.Fatalf("killed at %d: %v", n, err)
					}
					if got := treeOf(t, out); !maps.Equal(got, want) {
						t.Fatalf("killed at %d: %v, want %v, or other bytes", n, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
					}
					if resumed += min(r.Before, 1); r.Before > n+1 {
						t.Errorf("killed at %d, %d frames are done", n, r.Before)
					}
					if r.Before = 0; fmt.Sprint(r) != fmt.Sprint(whole) {
						t.Errorf("killed at %d: %+v, want %+v", n, r, whole)
					}
				}
				if len(killed) < 20 || resumed < 6 {
					t.Errorf("%d conversions went on, of %d frames", resumed, len(killed))
				}
			})
		}
	}
}

// What is done is kept by a conversion that is stopped or meets a bad sample, which may
// be repaired then; of other shards or options it is not taken.
func TestResumeRefuses(t *testing.T) {
	dir := t.TempDir()
	names, all := threeShards(t, dir)
	out := filepath.Join(dir, "out")
	options := func(change func(o *Options)) Options {
		o := Options{Shards: names, Out: out, FPS: 10, partBytes: -1}
		if change != nil {
			change(&o)
		}
		return o
	}
	good, _ := os.ReadFile(names[2])
	write(t, names[2], []byte("no shard"))
	_, err := Run(t.Context(), options(nil))
	var un *Unfinished
	if !errors.As(err, &un) || un.Frames < 6 || !strings.Contains(err.Error(), "s2.tar") {
		t.Fatalf("%v", err)
	}
	lock, err := checkpoint.LockRunDir(workDir(out))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Run(t.Context(), options(nil)); err == nil || !strings.Contains(err.Error(), "another conversion to "+out+" is at work") {
		t.Errorf("two at once: %v", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(o *Options)
		want   string
	}{
		"another rate":   {func(o *Options) { o.FPS = 20 }, "of a conversion with other options; give the same ones to go on, or --afresh"},
		"another robot":  {func(o *Options) { o.Robot = "arm" }, "other options"},
		"another form":   {func(o *Options) { o.Form = Folder }, "other options"},
		"fewer shards":   {func(o *Options) { o.Shards = names[:1] }, "2 shards or more, and here are 1"},
		"other shards":   {func(o *Options) { o.Shards = []string{names[1], names[0], names[2]} }, "s1.tar is not the shard that "},
		"standard input": {func(o *Options) { o.Shards, o.Stdin = []string{"-", "-"}, bytes.NewReader(all) }, "- is not the shard that "},
	} {
		if _, err := Run(t.Context(), options(c.change)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, names[2], good) // repaired
	r, err := Run(t.Context(), options(nil))
	if err != nil || r.Before != un.Frames || r.Frames != 21 {
		t.Errorf("%+v, %v", r, err)
	}
	want := treeOf(t, out)
	os.RemoveAll(out)
	write(t, names[2], []byte("no shard"))
	Run(t.Context(), options(nil))
	write(t, names[2], good)
	if r, err = Run(t.Context(), options(func(o *Options) { o.Afresh = true })); err != nil || r.Before != 0 || !maps.Equal(treeOf(t, out), want) {
		t.Errorf("afresh: %+v, %v", r, err)
	}

	// A pipe that brings other samples, or fewer, than before.
	os.RemoveAll(out)
	stdin := func(b []byte) Options {
		return options(func(o *Options) { o.Shards, o.Stdin = []string{"-"}, bytes.NewReader(b) })
	}
	if _, err = Run(t.Context(), stdin(all[:len(all)*2/3])); !errors.As(err, &un) {
		t.Fatal(err)
	}
	other := bytes.Replace(all, []byte("push the ep0"), []byte("pull the ep0"), 1)
	if _, err = Run(t.Context(), stdin(other)); err == nil || !strings.Contains(err.Error(), "standard input does not begin with the samples that ") {
		t.Errorf("another pipe: %v", err)
	}
	var few []member
	few = append(few, frameOf("ep0", 0, "ep0/0000")...)
	if _, err = Run(t.Context(), stdin(shardOf(t, few...))); err == nil || !strings.Contains(err.Error(), "samples that were converted are not there any more") {
		t.Errorf("a short pipe: %v", err)
	}
	// A part that is damaged, or a table that is gone, is no part.
	write(t, filepath.Join(workDir(out), "part-000000"), []byte("none"))
	if _, err = Run(t.Context(), stdin(all)); err == nil || !strings.Contains(err.Error(), "part-000000: ") || !strings.Contains(err.Error(), "--afresh") {
		t.Errorf("a damaged part: %v", err)
	}
}
