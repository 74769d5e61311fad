package data

import (
	"bytes"
	"image/color"
	"reflect"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// wordsFolder is a folder whose eight instructions are one café in two forms,
// one don't with two apostrophes, a sentence without spaces, and three without
// a word.
func wordsFolder(t *testing.T) string {
	dir := t.TempDir()
	write(t, dir, "r.png", encodePNG(t, testPicture(8, 8, color.RGBA{200, 0, 0, 255})))
	var b bytes.Buffer
	for _, s := range []string{`ouvre le caf\u00e9`, `ouvre le cafe\u0301`, `don't move`, `don\u2019t move`, `\u62ff\u8d77\u7ea2\u8272\u65b9\u5757`, ``, `   `, `\ud83e\udd16`} {
		b.WriteString(`{"image": "r.png", "instruction": "` + s + `", "action": [1.0]}` + "\n")
	}
	write(t, dir, "manifest.jsonl", b.Bytes())
	return dir
}

// findingsOf are the lines of one kind.
func findingsOf(d Dataset, kind string) (out []string) {
	for _, f := range d.Findings() {
		if f.Kind == kind {
			out = append(out, f.String())
		}
	}
	return out
}

func TestFindingsOfWords(t *testing.T) {
	n := vlaNeeds.Clone()
	n.Find(models.Actions).Shape[0] = 1
	d, err := Open(of(job.Data{Kind: "folder", Path: wordsFolder(t)}), n, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if want := []string{"<pad>", "<unk>", "café", "don't", "le", "move", "ouvre", "拿起红色方块"}; !reflect.DeepEqual(d.Meta().Vocab, want) {
		t.Errorf("vocabulary %q, want %q", d.Meta().Vocab, want)
	}
	for kind, want := range map[string]string{
		"no_instruction": "3 of 8 samples have no instruction; the model sees one unknown word there",
		"unspaced_words": `1 of 8 samples have an instruction in a script without spaces between words, such as "拿起红色方块", which is one word here; put spaces between its words if the model is to tell them apart`,
	} {
		if got := findingsOf(d, kind); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}
