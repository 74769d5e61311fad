package data

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Training shows each sample's instruction in one of several wordings: those of a file
// (data.wordings, wordings.go), and those that the data has itself (rlds' data.instruction).
// A source says in which ones a sample can be shown; the rest is here.
//
//	file, texts ──> say ──> table.said ──> rows of tokens ──> Sample.words
//	                                                              │
//	LocalFeed ── reword: one, by (seed, epoch, sample) <──────────┘
//
// Whoever asks a Source has the plain wording. So evaluation is of the recorded words,
// and training, which asks a Feed, of all.

// utterance is the tokens of a text in each of its wordings; samples share it.
type utterance struct {
	at   int       // place of the instruction among a sample's values
	rows [][]int32 // the plain wording first
}

// Wordings are the tokens of the wordings of which training shows the sample one; nil:
// it shows it as it is. They are to be read only.
func (s *Sample) Wordings() [][]int32 {
	if s.words == nil {
		return nil
	}
	return s.words.rows
}

// reword has a sample of the stream say its instruction in one of its wordings, of which
// each is as likely: a pure function of the job's seed, the epoch and the sample.
func (o Order) reword(s *Sample) {
	rows := s.Wordings()
	if rows == nil {
		return
	}
	k := philox.Stream{Seed: o.Seed, Purpose: philox.Wording, Step: s.Epoch, Sample: s.ID}.Intn(0, len(rows))
	s.Values = slices.Clone(s.Values) // whoever gave the sample may give it again
	s.Values[s.words.at].Ints = rows[k]
}

// Worded is what a checkpoint keeps of the wordings that training shows.
type Worded struct {
	Name         string `json:"name,omitempty"`   // of the file; empty: the data has them itself
	SHA256       string `json:"sha256,omitempty"` // of the file, in hex
	Instructions int    `json:"instructions"`     // of the training split that are not shown as they are alone
	Wordings     int    `json:"wordings"`         // that those are shown in
}

// String is what is shown, in words.
func (w *Worded) String() string {
	s := fmt.Sprintf("%s in %s", counted(w.Instructions, "instruction"), counted(w.Wordings, "wording"))
	if w.Name != "" {
		s += " (" + w.Name + ")"
	}
	return s
}

// file names a file of wordings in messages.
func (w *Worded) file() string {
	if w == nil || w.SHA256 == "" {
		return "none"
	}
	return fmt.Sprintf("%s (SHA-256 %.12s)", w.Name, w.SHA256)
}

// describe begins what is kept of wordings; w may be nil.
func (w *wordings) describe() *Worded {
	if w == nil {
		return &Worded{}
	}
	return &Worded{Name: w.name, SHA256: w.sum}
}

// worded counts what is shown of the texts that are used (nil: all are), by w and the data
// itself; nil: all are as they are.
func (t *table) worded(w *wordings, used []bool) *Worded {
	if t.said == nil {
		return nil
	}
	instructions, wordings := map[string]bool{}, map[string]bool{}
	for k, text := range t.texts {
		if said := t.said[k]; (used == nil || used[k]) && (len(said) > 1 || said[0] != text) {
			instructions[text] = true
			for _, s := range said {
				wordings[s] = true
			}
		}
	}
	out := w.describe()
	out.Instructions, out.Wordings = len(instructions), len(wordings)
	return out
}

// wordedOf are the wordings of all sets of a mixture; of a file alone its sets know.
func wordedOf(sets []SetMeta) (all *Worded) {
	for _, s := range sets {
		if s.Worded == nil {
			continue
		}
		if all == nil {
			all = &Worded{}
		}
		all.Instructions, all.Wordings = all.Instructions+s.Worded.Instructions, all.Wordings+s.Worded.Wordings
	}
	return all
}

// rewordedSince says how the files of wordings of two descriptions of data differ; empty:
// they do not.
func rewordedSince(was, is *Meta) string {
	if a, b := was.Worded.file(), is.Worded.file(); a != b {
		return fmt.Sprintf("data.wordings is %s, it was %s", b, a)
	}
	for i := range min(len(was.Sets), len(is.Sets)) {
		if a, b := was.Sets[i].Worded.file(), is.Sets[i].Worded.file(); a != b {
			return fmt.Sprintf("%s.wordings is %s, it was %s", setKey(i), b, a)
		}
	}
	return ""
}

// takeWordings reads the file of data.wordings. A measurement on other data than the
// checkpoint's has no use for it, and a mixture leaves it to its sets.
func (o *Opening) takeWordings(k Options) (err error) {
	_, mixed := k.(Mixture)
	if o.WordKeys.Wordings == "" || mixed || o.given != nil && o.given.Fingerprint == "" && !o.watch.part {
		return nil
	}
	o.wordings, err = readWordings(job.Abs(o.base, o.WordKeys.Wordings))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; want %s; in a job file the path starts at the file's own folder", err, wordingsForm)
	}
	if err != nil {
		return keyError("data.wordings", "data.wordings: %w", err)
	}
	return nil
}

// say settles in which wordings a table's texts are shown.
func (o *Opening) say(t *table) []*unsaid {
	if o.wordings == nil && t.others == nil || !o.Wants.Has(models.Instruction) {
		return nil
	}
	has := map[string]bool{}
	t.said = make([][]string, len(t.texts))
	for k, text := range t.texts {
		has[text] = true
		own := []string{text}
		if t.others != nil {
			own = append(own, t.others[k]...)
		}
		t.said[k] = o.wordings.say(own...)
	}
	return o.wordings.unsaid(func(text string) bool { return has[text] }, t.texts)
}

// sayable are the entries of the file that data can have which makes its instructions of
// some words, as a table of texts alone.
func (o *Opening) sayable(vocabulary []string) (*table, []*unsaid) {
	t := &table{}
	if o.wordings == nil || !o.Wants.Has(models.Instruction) {
		return t, nil
	}
	t.said = [][]string{} // not nil: no entry is another matter than no file
	can := func(text string) bool {
		return !slices.ContainsFunc(splitWords(text), func(w string) bool { return !slices.Contains(vocabulary, w) })
	}
	for _, text := range o.wordings.order {
		if can(text) {
			t.texts, t.said = append(t.texts, text), append(t.said, o.wordings.say(text))
		}
	}
	return t, o.wordings.unsaid(can, nil)
}

// sayings are the wordings of text k, the plain one first.
func (t *table) sayings(k int) []string {
	if t.said == nil {
		return t.texts[k : k+1]
	}
	return t.said[k]
}

// rows are the tokens of all texts in all their wordings; at is the instruction's place
// among a sample's values.
func (t *table) rows(tok *Tokenizer, at int) ([]*utterance, error) {
	out := make([]*utterance, len(t.texts))
	for k := range t.texts {
		rows, err := tok.encode(t.sayings(k))
		if err != nil {
			return nil, err
		}
		out[k] = &utterance{at, rows}
	}
	return out, nil
}

// plus are the texts of a split that can be said in more wordings.
func (of texts) plus(more func() []string) texts {
	return texts{
		words: func() ([]string, int) {
			vocabulary, longest := of.words()
			head, known := vocabulary[:2], slices.Clone(vocabulary[2:])
			for _, s := range more() {
				words := splitWords(s)
				longest, known = max(longest, len(words)), append(known, words...)
			}
			slices.Sort(known)
			return append(slices.Clip(head), slices.Compact(known)...), longest
		},
		all: func() []string { return append(slices.Clip(of.all()), more()...) },
	}
}

// unsaid are entries of a file that no sample of a data set has.
type unsaid struct {
	of    *wordings
	texts []string // the entries
	has   []string // what the data has instead; nil: what it makes, nobody lists
}

// unsaid are the entries that data of those instructions has not, if any.
func (w *wordings) unsaid(says func(text string) bool, has []string) []*unsaid {
	if w == nil {
		return nil
	}
	u := &unsaid{of: w, has: has}
	for _, text := range w.order {
		if !says(text) {
			u.texts = append(u.texts, text)
		}
	}
	return []*unsaid{u}
}

// missing tells of the entries of files that no data set has that was opened with them: some
// may be of a part of the data that is not here, all are a mistake.
func (o *Opening) missing(all []*unsaid) error {
	var files []*unsaid
	for _, u := range all {
		i := slices.IndexFunc(files, func(f *unsaid) bool { return f.of.sum == u.of.sum })
		if i < 0 {
			files = append(files, &unsaid{u.of, u.texts, u.has})
			continue
		}
		f := files[i]
		f.has = append(slices.Clip(f.has), u.has...)
		both := map[string]bool{}
		for _, s := range u.texts {
			both[s] = true
		}
		f.texts = slices.DeleteFunc(slices.Clone(f.texts), func(s string) bool { return !both[s] })
	}
	for _, f := range files {
		n, all := len(f.texts), len(f.of.order)
		if n == 0 {
			continue
		}
		first := f.texts[0]
		what := fmt.Sprintf("%d of %s's %s are none of the data's, such as %s in line %d", n, f.of.name, counted(all, "instruction"), quoted(first), f.of.of[first].line)
		if near, ok := job.Nearest(first, f.has); ok {
			what += ": did you mean " + quoted(near) + "?"
		} else if len(f.has) > 0 {
			what += fmt.Sprintf("; the data has %s", strings.Join(quotedSome(f.has), ", "))
		}
		if n == all && o.given == nil {
			return keyError("data.wordings", "data.wordings: %s", what)
		}
		o.find("unused_wordings", "", "nothing is trained on those", "%s", what)
	}
	return nil
}

// quotedSome are the first of some texts, in quotation marks.
func quotedSome(texts []string) (out []string) {
	for i, s := range texts {
		if i == 3 {
			return append(out, "…")
		}
		out = append(out, quoted(s))
	}
	return out
}
