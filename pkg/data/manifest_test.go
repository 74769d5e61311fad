package data

import (
	"bytes"
	"encoding/binary"
	"image/color"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// manifestFolder is a folder with r.png, img/r.png, café.png in decomposed
// letters, and the manifest.
func manifestFolder(t *testing.T, manifest string) string {
	t.Helper()
	dir := t.TempDir()
	png := encodePNG(t, testPicture(8, 8, color.RGBA{200, 0, 0, 255}))
	for _, name := range []string{"r.png", "img/r.png", "cafe\u0301.png", "na\u00efve.png"} {
		write(t, dir, name, png)
	}
	write(t, dir, "lfs.png", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"))
	write(t, dir, ManifestName, []byte(manifest))
	return dir
}

var manifestNeeds = models.Spec{pictures(3, 8, 8), words(32), acts(0)}

const plainLine = `{"image": "r.png", "instruction": "go", "action": [1, 10]}`

func utf16File(text string, order binary.AppendByteOrder, mark bool) string {
	var b []byte
	if mark {
		b = order.AppendUint16(b, 0xfeff)
	}
	for _, u := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, u)
	}
	return string(b)
}

func TestManifestRefused(t *testing.T) {
	for name, c := range map[string]struct{ manifest, want string }{
		"null in an action":   {plainLine + "\n" + `{"image": "r.png", "instruction": "go", "action": [null, 20]}`, ":2: action value 0 is null; write a finite number, or leave the line out"},
		"null action":         {`{"image": "r.png", "instruction": "go", "action": null}`, ":1: action is null; give its numbers, or leave the line out"},
		"null instruction":    {`{"image": "r.png", "instruction": null, "action": [1]}`, `:1: instruction is null; write "" for none`},
		"null image":          {`{"image": null, "instruction": "go", "action": [1]}`, ":1: image is null; name a picture"},
		"null episodes":       {`{"image":"r.png","instruction":"go","action":[1,10],"episode":null}`, ":1: episode is null; give a whole number, or leave the key out of all lines"},
		"NaN":                 {`{"action":[NaN],"image":"r.png","instruction":"go"}`, ":1: action value 0 is NaN, and NaN and infinity are not allowed; write a finite number"},
		"infinity":            {`{"action":[1,-Infinity],"image":"r.png","instruction":"go"}`, ":1: action value 1 is -Infinity"},
		"a text in an action": {`{"action":["1.0"],"image":"r.png","instruction":"go"}`, ":1: action value 0 is a text"},
		"nested action":       {`{"action":[[1,2]],"image":"r.png","instruction":"go"}`, ":1: action value 0 is a list"},
		"true":                {`{"action":[true],"image":"r.png","instruction":"go"}`, ":1: action value 0 is true"},
		"one number":          {`{"action":1,"image":"r.png","instruction":"go"}`, ":1: action: it is a number, expected a list of numbers, such as [0.1, 0]"},
		"no values":           {`{"action":[],"image":"r.png","instruction":"go"}`, ":1: the key action is missing or empty"},
		"too large":           {`{"action":[1e400],"image":"r.png","instruction":"go"}`, ":1: action value 0 is 1e400, which does not fit float32"},
		"several texts":       {`{"action":[1],"image":"r.png","instruction":["go","run"]}`, ":1: instruction: it is a list, expected a text"},
		"half an episode":     {`{"action":[1],"image":"r.png","instruction":"go","episode":1.5}`, ":1: episode: it is 1.5, expected a whole number"},

		"key twice":         {`{"image":"r.png","instruction":"go","action":[1,1],"action":[7,8]}`, `:1: the key "action" stands twice; give it once`},
		"three cases":       {`{"action":[1],"Action":[2],"ACTION":[3],"image":"r.png","instruction":"go"}`, `:1: the keys "action" and "Action" differ in case alone`},
		"capitals":          {`{"Image":"r.png","INSTRUCTION":"go","Action":[5,6],"EPISODE":3}`, `:1: the key "Image" is not known; write "image"`},
		"capital episode":   {`{"image":"r.png","instruction":"go","action":[5,6],"Episode":3}`, `:1: the key "Episode" is not known; write "episode"`},
		"plural":            {`{"image":"r.png","instruction":"go","actions":[5,6]}`, `:1: the key action is missing; the line has "actions": write "action" if that is meant`},
		"plural of episode": {`{"image":"r.png","instruction":"go","action":[5,6],"episodes":3}`, `:1: the key episode is missing; the line has "episodes"`},
		"swapped letters":   {`{"iamge":"r.png","instruction":"go","action":[5,6]}`, `the line has "iamge": write "image"`},

		"UTF-16 LE":          {utf16File(plainLine, binary.LittleEndian, true), "it is text in UTF-16: save it as UTF-8"},
		"UTF-16 BE":          {utf16File(plainLine, binary.BigEndian, true), "it is text in UTF-16: save it as UTF-8"},
		"UTF-16, no mark":    {utf16File(plainLine, binary.LittleEndian, false), "it is text in UTF-16: save it as UTF-8"},
		"Latin-1":            {plainLine + "\n" + strings.Replace(plainLine, "go", "caf\xe9", 1), ":2: byte 39 of the line is e9, which is not UTF-8; save the file as UTF-8"},
		"Git LFS":            {"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n", `it is a Git LFS pointer, not the file itself: run "git lfs pull"`},
		"gzip":               {"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x00", "it is a gzip file: unpack it with gunzip"},
		"HTML":               {"<!DOCTYPE html>\n<html><body>404</body></html>\n", "it is an HTML page"},
		"the text of a link": {"../../blobs/aa", `it is the text of a link to "../../blobs/aa": a copy kept the link's text and lost the file, as from a Hugging Face cache`},
		"nothing":            {"", "has no samples: it is an empty file"},
		"blanks":             {"\n \n", "has no samples"},
		"a list":             {"[" + plainLine + "]", `:1: a JSON list begins here, expected an object, which begins with {; write the list's objects one a line, as "jq -c '.[]'" does`},
		"a list over lines":  {"[\n" + plainLine + ",\n" + plainLine + "\n]", `:1: a JSON list begins here`},
		"CSV":                {"image,instruction,action\n", `:1: column 1: expected a JSON object, which begins with {`},
		"CR alone":           {plainLine + "\r" + plainLine + "\r", `:1: lines end in CR alone, as on an old Mac`},
		"a comma behind":     {plainLine + ",\n" + plainLine, `:1: a comma stands behind the object's }; leave it out`},
		"Parquet":            {"PAR1" + strings.Repeat("\x00", 100) + "PAR1", "it is a Parquet file: text is wanted here: write what it holds as JSON in UTF-8"},
		"a long key":         {`{"` + strings.Repeat("k", 9000) + `": 1, "` + strings.Repeat("k", 9000) + `": 2}`, "…" + strings.Repeat("k", 50) + `" stands twice`},
		"a table":            {"image,instruction,action\nr.png,go,1\n", `:1: column 1: expected a JSON object, which begins with {; there stands "image,instru"`},
		"indented":           {"{\n  \"image\": \"r.png\"\n}\n", `:1: the line ends inside its JSON object: expected a key in double quotes; write each object on one line of its own, as "jq -c ." does`},
		"two on a line":      {plainLine + plainLine, ":1: column 59: expected the end of the line after the object's }; write one object a line"},
		"cut in the middle":  {plainLine + "\n" + plainLine[:40] + "\n" + plainLine, ":2: the line ends inside its JSON object"},
		"cut off":            {plainLine + "\n" + plainLine[:37], ":2: key \"instruction\": the line ends inside its JSON object: a text in quotes has no end; it is the last line: the file is cut off"},
		"cut in a number":    {plainLine + "\n" + plainLine[:52], ":2: key \"action\": the line ends inside its JSON object"},
		"cut in a word":      {plainLine + "\n" + `{"image": "r.png", "done": fal`, "its last word is \"fal\"; it is the last line"},
		"single quotes":      {`{'image': 'r.png'}`, ":1: column 2: keys and texts stand in double quotes, not in single ones"},
		"a last comma":       {`{"image": "r.png", }`, ":1: column 19: a comma stands before }; leave it out"},
		"no comma":           {`{"image": "r.png" "instruction": "go"}`, `:1: column 19: expected a comma or } after the value of "image"`},
		"Python's None":      {`{"image": None}`, `:1: key "image": column 11: expected a value`},
		"a leading zero":     {`{"action": [007], "image": "r.png", "instruction": "go"}`, `:1: key "action": column 13: expected a value`},
		"deep":               {`{"x": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "more than 64 lists and objects inside one another"},

		"backslash":             {`{"image": "img\\r.png", "instruction": "go", "action": [1.0]}`, `:1: image "img\\r.png": there is no such file; / stands between folder and file, not \: write "img/r.png"`},
		"capitals of a file":    {`{"image": "IMG/R.png", "instruction": "go", "action": [1.0]}`, `:1: image "IMG/R.png": there is no such file, but there is "img/r.png"`},
		"no such file":          {`{"image": "img/q.png", "instruction": "go", "action": [1.0]}`, `:1: image "img/q.png": there is no such file in /`},
		"no name":               {`{"image": "", "instruction": "go", "action": [1.0]}`, `:1: image "": the name is empty; name a picture, or leave the line out`},
		"an address":            {`{"image": "https://example.org/r.png", "instruction": "go", "action": [1.0]}`, `it is an address; download the picture into the folder`},
		"a long name":           {`{"image": "` + strings.Repeat("x", 9000) + `.png", "instruction": "go", "action": [1.0]}`, `x…xxx`},
		"no such name, accents": {`{"image": "th\u00e9.png", "instruction": "go", "action": [1.0]}`, `neither as "th\u00e9.png" (NFC) nor as "the\u0301.png" (NFD)`},
		"a pointer for picture": {`{"image": "lfs.png", "instruction": "go", "action": [1.0]}`, `:1: image "lfs.png": image: neither PNG nor JPEG: it is a Git LFS pointer, not the file itself: run "git lfs pull"`},
	} {
		checkErrors(t, of(job.Data{Kind: "folder", Path: manifestFolder(t, c.manifest)}), manifestNeeds,
			map[string]errorCase{name: {func(*job.Data, *models.Spec) {}, []string{ManifestName, c.want}}})
	}
}

func TestManifestAccepted(t *testing.T) {
	second := `{"image": "r.png", "instruction": "stop", "action": [3, 30]}`
	for name, manifest := range map[string]string{
		"plain":                 plainLine + "\n" + second + "\n",
		"no last newline":       plainLine + "\n" + second,
		"byte order mark":       "\ufeff" + plainLine + "\n" + second + "\n",
		"CRLF":                  plainLine + "\r\n" + second + "\r\n",
		"blank lines":           "\n" + plainLine + "\n  \n\t\r\n" + second + "\n\n \n",
		"other keys":            `{"note": {"a": [1, {"b": null}], "Image": 1}, "reward": NaN, "x": null, ` + plainLine[1:] + "\n" + second,
		"composed name":         strings.Replace(plainLine, "r.png", `caf\u00e9.png`, 1) + "\n" + second,
		"decomposed name":       strings.Replace(plainLine, "r.png", `nai\u0308ve.png`, 1) + "\n" + second,
		"episodes as 1.0":       strings.Replace(plainLine, "}", `, "episode": 1.0}`, 1) + "\n" + strings.Replace(second, "}", `, "episode": 2}`, 1),
		"escapes in keys":       `{"im\u0061ge": "r.png", "instruction": "go", "action": [1, 1e1]}` + "\n" + second,
		"quotes in a text":      strings.Replace(plainLine, "go", `\"go\" {[,`, 1) + "\n" + second,
		"the last of five keys": `{"actions": [[9]], ` + plainLine[1:] + "\n" + second,
	} {
		d, err := Open(of(job.Data{Kind: "folder", Path: manifestFolder(t, manifest)}), manifestNeeds, 1, "", nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m := d.Meta()
		if m.Train != 2 || !reflect.DeepEqual(m.Actions.Mean, []float64{2, 20}) || !reflect.DeepEqual(m.Vocab, []string{"<pad>", "<unk>", "go", "stop"}) {
			t.Errorf("%s: %d samples, mean %v, vocabulary %q", name, m.Train, m.Actions.Mean, m.Vocab)
		}
		if s, err := d.Train().Sample(0); err != nil || len(pictureOf(s).Encoded) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		d.Close()
	}
	// What the model does not need is not looked at.
	d, err := Open(of(job.Data{Kind: "folder", Path: manifestFolder(t, `{"image": "r.png", "instruction": null, "action": [1, 2]}`)}), models.Spec{pictures(3, 8, 8), acts(0)}, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// hubCache is a data set as the Hugging Face hub's cache stores it: a snapshot
// of links to blobs.
func hubCache(t *testing.T) (snapshot string) {
	t.Helper()
	hub := t.TempDir()
	write(t, hub, "blobs/aa", []byte(plainLine+"\n"))
	write(t, hub, "blobs/bb", encodePNG(t, testPicture(8, 8, color.RGBA{200, 0, 0, 255})))
	snapshot = filepath.Join(hub, "snapshots", "rev")
	if err := os.MkdirAll(filepath.Join(snapshot, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{ManifestName: "../../blobs/aa", "r.png": "../../blobs/bb", "data/" + ManifestName: "../../../blobs/aa", "data/r.png": "../../../blobs/bb"} {
		if err := os.Symlink(to, filepath.Join(snapshot, name)); err != nil {
			t.Fatal(err)
		}
	}
	return snapshot
}

func TestFolderInHubCache(t *testing.T) {
	snapshot := hubCache(t)
	link := filepath.Join(t.TempDir(), "mydata")
	if err := os.Symlink(snapshot, link); err != nil {
		t.Fatal(err)
	}
	var want string
	for _, dir := range []string{manifestFolder(t, plainLine+"\n"), snapshot, filepath.Join(snapshot, "data"), link} {
		d, err := Open(of(job.Data{Kind: "folder", Path: dir}), manifestNeeds, 1, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = d.Meta().Fingerprint
		}
		if d.Meta().Fingerprint != want {
			t.Errorf("%s: links make other data of the same files", dir)
		}
		if s, err := d.Train().Sample(0); err != nil || !bytes.HasPrefix(pictureOf(s).Encoded, pngMagic) {
			t.Error(err)
		}
		d.Close()
	}
	// A blob that is not there, and links to anywhere else.
	elsewhere := t.TempDir()
	write(t, elsewhere, "x.png", encodePNG(t, testPicture(8, 8, color.RGBA{200, 0, 0, 255})))
	for name, c := range map[string]struct{ to, want string }{
		"no blob":           {"../../blobs/cc", `image "r.png": it is a link to "../../blobs/cc", which is not there: the copy or cache is incomplete; download it again`},
		"outside":           {filepath.Join(elsewhere, "x.png"), `outside the data folder`},
		"out of the blobs":  {"../../blobs/out", `outside the data folder`},
		"absolute, inside":  {filepath.Join(snapshot, "data", "r.png"), ""},
		"absolute, in blob": {filepath.Join(filepath.Dir(filepath.Dir(snapshot)), "blobs", "bb"), ""},
	} {
		at := filepath.Join(snapshot, "r.png")
		os.Remove(at)
		os.Symlink(filepath.Join(elsewhere, "x.png"), filepath.Join(snapshot, "..", "..", "blobs", "out"))
		if err := os.Symlink(c.to, at); err != nil {
			t.Fatal(err)
		}
		d, err := Open(of(job.Data{Kind: "folder", Path: snapshot}), manifestNeeds, 1, "", nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err == nil {
			d.Close()
		}
	}
}

// Whatever the line, the reader ends with an error or with values that are
// finite and of one width.
func FuzzManifestLine(f *testing.F) {
	for _, s := range []string{plainLine, `{"action":[NaN,null,1e400,"x",[1]]}`, `{"a":{"b":[{}]},"A":1}`, `{"image":"\ud800","action":[-0]}`, "{", `{"x":tru`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		l, err := parseManifestLine(line, Folder{}.lines(manifestNeeds))
		if err != nil {
			if len(err.Error()) > 600+2*len(line) {
				t.Fatalf("an error of %d bytes for a line of %d", len(err.Error()), len(line))
			}
			return
		}
		if len(l.action) == 0 {
			t.Fatal("no action and no error")
		}
		for _, v := range l.action {
			if v-v != 0 {
				t.Fatalf("action %v", l.action)
			}
		}
	})
}
