package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shardFolder writes a sharded model of two parts with its index into a new folder.
func shardFolder(t *testing.T) (dir, index string) {
	t.Helper()
	dir = t.TempDir()
	put := func(name string, tensors ...Tensor) {
		var b bytes.Buffer
		if err := Write(&b, tensors, nil); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), b.String())
	}
	put("model-00001-of-00002.safetensors", Tensor{"a", []int{2}, []float32{1, 2}}, Tensor{"b", []int{1}, []float32{3}})
	put("model-00002-of-00002.safetensors", Tensor{"c", []int{2}, []float32{4, 5}})
	index = filepath.Join(dir, "model.safetensors.index.json")
	write(t, index, `{"metadata": {"total_size": 20}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}}`)
	return dir, index
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The parts of a sharded model are one file, by index and by folder.
func TestOpenModelSharded(t *testing.T) {
	dir, index := shardFolder(t)
	for _, path := range []string{index, dir} {
		f, err := OpenModel(path)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.Names(), []string{"a", "b", "c"}) {
			t.Errorf("its names are %v", f.Names())
		}
		for name, want := range map[string][]float32{"a": {1, 2}, "b": {3}, "c": {4, 5}} {
			got, err := f.Float32(name)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s is %v (%v), want %v", name, got, err, want)
			}
			one := make([]float32, 1)
			if err := f.Values(name, len(want)-1, one); err != nil || one[0] != want[len(want)-1] {
				t.Errorf("the last of %s is %v (%v)", name, one, err)
			}
			r, err := f.Bytes(name)
			if err != nil || r.Size() != int64(4*len(want)) {
				t.Errorf("the bytes of %s: %v", name, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	// An index may have any name, and metadata before its map.
	b, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(dir, "weights.json")
	write(t, odd, `{"metadata": {"note": "`+strings.Repeat("x", 5000)+`"}, `+strings.TrimPrefix(string(b), "{"+`"metadata": {"total_size": 20}, `))
	f, err := OpenModel(odd)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	// One file alone in a folder is that file.
	whole := t.TempDir()
	if b, err = os.ReadFile(reference); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(whole, "model.safetensors"), string(b))
	f, err = OpenModel(whole)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestOpenModelRefused(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(dir, index string) string // changes the folder, returns what to open
		says []string
	}{
		{"a part that is not there", func(dir, index string) string {
			os.Remove(filepath.Join(dir, "model-00002-of-00002.safetensors"))
			return index
		}, []string{"index of a sharded file with 2 parts, of which 1 are not there: model-00002-of-00002.safetensors"}},
		{"a part that is a pointer", func(dir, index string) string {
			write(t, filepath.Join(dir, "model-00002-of-00002.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
			return index
		}, []string{"part 2 of 2 of the sharded file", "Git LFS pointer", "git lfs pull"}},
		{"an index that is a pointer", func(dir, index string) string {
			write(t, index, "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
			return dir
		}, []string{"is not the index of a sharded file", "git lfs pull"}},
		{"no index", func(dir, index string) string { os.Remove(index); return dir },
			[]string{"the parts of a sharded file, model-00001-of-00002.safetensors, model-00002-of-00002.safetensors, and without their index"}},
		{"parts that are elsewhere", func(dir, index string) string {
			write(t, index, `{"weight_map": {"a": "../x.safetensors"}}`)
			return index
		}, []string{`the part "../x.safetensors" of the tensor "a" is not the name of a file beside the index`}},
		{"parts of PyTorch", func(dir, index string) string {
			path := filepath.Join(dir, "pytorch_model.bin.index.json")
			write(t, path, `{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}`)
			return path
		}, []string{"no safetensors files (pytorch_model-00001-of-00002.bin)", "safetensors.torch.save_file"}},
		{"an index of another download", func(dir, index string) string {
			write(t, index, `{"weight_map": {"a": "model-00001-of-00002.safetensors"}}`)
			return index
		}, []string{`the tensor "b" lies in model-00001-of-00002.safetensors, and the index has it not at all`}},
		{"an index with more", func(dir, index string) string {
			write(t, index, `{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00001-of-00002.safetensors", "x": "model-00001-of-00002.safetensors"}}`)
			return index
		}, []string{`1 of the index's 3 tensors are not in their parts: "x" of model-00001-of-00002.safetensors`}},
		{"JSON without a map", func(dir, index string) string { write(t, index, `{}`); return index }, []string{"it has no weight_map"}},
		{"two models", func(dir, index string) string {
			write(t, filepath.Join(dir, "ema.safetensors.index.json"), "{}")
			return dir
		}, []string{"ema.safetensors.index.json, model.safetensors.index.json: name the one that is meant"}},
		{"PyTorch files", func(dir, _ string) string {
			d := filepath.Join(dir, "pt")
			os.Mkdir(d, 0o700)
			write(t, filepath.Join(d, "pytorch_model.bin"), "x")
			return d
		}, []string{"a folder with PyTorch files, pytorch_model.bin", "safetensors.torch.save_file"}},
		{"an empty folder", func(dir, _ string) string { d := filepath.Join(dir, "e"); os.Mkdir(d, 0o700); return d }, []string{"a folder without a .safetensors file"}},
	} {
		f, err := OpenModel(c.do(shardFolder(t)))
		if err == nil {
			f.Close()
			t.Errorf("%s was opened", c.what)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v\nwithout %q", c.what, err, s)
			}
		}
	}
}

func TestShard(t *testing.T) {
	for name, want := range map[string]string{
		"x/model-00001-of-00002.safetensors": "model 1 2", "m-00010-of-00120.safetensors": "m 10 120",
		"model.safetensors": "", "model-00001-of-00001.safetensors": "", "model-1-of-2.safetensors": "",
	} {
		got := ""
		if stem, part, of, ok := Shard(name); ok {
			got = fmt.Sprint(stem, " ", part, " ", of)
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// What is no safetensors file at all is named by what it is, whatever the eight
// bytes at its beginning would claim as a header's length.
func TestReadNamesWhatItIs(t *testing.T) {
	for _, c := range []struct{ content, says string }{
		{"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", `f: not a safetensors file: it is a Git LFS pointer, not the file itself: run "git lfs pull" in its repository to fetch the file`},
		{"<html><body>Sign in to continue</body></html>", "it is an HTML page: a server sent this page in place of the file"},
		{"PK\x03\x04" + strings.Repeat("\x00", 60), "it is a zip archive, such as torch.save writes (a PyTorch pickle): convert it in Python: safetensors.torch.save_file"},
		{"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "it is a Python pickle, as an old torch.save writes it: convert it in Python: safetensors.torch.save_file"},
		{"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "it is a gzip file: unpack it with gunzip"},
		{`{"weight_map": {"a": "model-00001-of-00002.safetensors"}}`, "it is the index of a sharded safetensors file"},
		{`{"metadata": {"a": "` + strings.Repeat("x", 3000) + `"}, "weight_map": {}}`, "whose parts stand beside it"},
		{`{"metadata": {` + strings.Repeat(" ", 3000) + `}, "weight_map": {}}`, "it is the index of a sharded safetensors file"},
		{"Entry not found", `it is plain text that begins with "Entry not found"`},
		{"", "it is an empty file: download or copy it again"},
		{strings.Repeat("\x00", 4000), "it is a file of zero bytes: a download or copy broke off"},
		{"\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":", "not a valid safetensors file: its header claims 64 bytes and the file has 5 after the length: it is cut off; download or copy it again"},
	} {
		_, err := Read(strings.NewReader(c.content), int64(len(c.content)), "f")
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.20q: %v\nwant %s", c.content, err, c.says)
		}
	}
}

// A file's own words do not fill a screen: a name or a shape of megabytes.
func TestMessagesFitAScreen(t *testing.T) {
	name := strings.Repeat("n", 1<<20)
	for _, header := range []string{
		`{"` + name + `":{"dtype":"F33","shape":[],"data_offsets":[0,4]}}`,
		`{"w":{"dtype":"F32","shape":[` + strings.Repeat("1,", 1<<19) + `2],"data_offsets":[0,4]}}`,
		`{"w":{"dtype":"` + name + `","shape":[],"data_offsets":[0,4]}}`,
	} {
		file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+"\x00\x00\x00\x00"...)
		if _, err := Read(bytes.NewReader(file), int64(len(file)), "f"); err == nil || len(err.Error()) > 3000 {
			t.Errorf("a message of %d bytes", len(err.Error()))
		}
	}
}

// A folder is named, and a pipe does not make the reader wait.
func TestOpenOnlyFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "is a folder: name the .safetensors file in it") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Open(os.DevNull); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a device: %v", err)
	}
}

// The zeros at the end are counted to the byte, over the edges of what is read
// at once, and no further than the tensors go.
func TestEndsInZeros(t *testing.T) {
	for _, c := range [][2]int{{0, 0}, {1, 0}, {10, 1}, {1 << 16, 1<<16 - 1}, {1<<17 + 5, 1<<16 + 3}, {1 << 17, 1 << 17}, {1<<17 + 1, 1 << 16}} {
		data := make([]uint8, c[0])
		for i := range data[:c[0]-c[1]] {
			data[i] = uint8(i%255 + 1)
		}
		var b bytes.Buffer
		if err := Write(&b, []Tensor{{Name: "x", Shape: []int{c[0]}, Data: data}}, nil); err != nil {
			t.Fatal(err)
		}
		f, err := Read(bytes.NewReader(b.Bytes()), int64(b.Len()), "f")
		if err != nil {
			t.Fatal(err)
		}
		if n, many := f.EndsInZeros(); n != int64(c[1]) || many != (c[1] >= 1<<16) {
			t.Errorf("%d bytes that end in %d zeros: %d, many: %v", c[0], c[1], n, many)
		}
	}
}
