package inspect

import (
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// Of a page.
const (
	pageSamples  = 6
	pageRows     = 28 // of a table
	pageWarnings = 6
	pagePhotos   = 4 // in a line: as they are, and as training changes them in one epoch or several
	pageTokens   = 64
	pageWordings = 4 // beside the plain one
)

// checkPage refuses a page that cannot be written, before anything is read.
func (o *Options) checkPage() error {
	if o.Page == "" {
		return nil
	}
	if !IsPage(o.Page) {
		return usage.Errorf("--out %s: want the name of a picture that is made, such as page.png", o.Page)
	}
	if info, err := os.Stat(filepath.Dir(o.Page)); err != nil || !info.IsDir() {
		return usage.Errorf("--out %s: there is no folder %s", o.Page, filepath.Dir(o.Page))
	}
	return nil
}

// IsPage says whether a file of that name is a picture.
func IsPage(name string) bool { return strings.EqualFold(filepath.Ext(name), ".png") }

// page draws samples of different episodes as the model sees them: pictures, as they
// are and as training changes them, actions and state before the range that they have
// in training. It does nothing where nobody has asked for a page.
func (o *Options) page(d data.Dataset, findings []data.Finding) error {
	if o.Page == "" {
		return nil
	}
	m := d.Meta()
	s := &picture.Sheet{Title: fmt.Sprintf("%s: %s data, %s to train on, %d held out", o.Arg, m.Kind, counted(m.Train, "sample"), m.Heldout)}
	s.Notes = strings.Split(strings.TrimSpace(m.Text()), "\n")
	for i, f := range findings {
		if i == pageWarnings {
			s.Warnings = append(s.Warnings, fmt.Sprintf("and %d more warnings", len(findings)-i))
			break
		}
		s.Warnings = append(s.Warnings, "warning: "+f.String())
	}
	eye, err := newEye(m)
	if err != nil {
		return err
	}
	for _, g := range d.Glimpses(pageSamples) {
		s.Cards = append(s.Cards, eye.card(d.Train(), g))
		if _, h := s.Size(); h > 12000 && len(s.Cards) > 1 { // pictures are large, or many
			s.Cards = s.Cards[:len(s.Cards)-1]
			break
		}
	}
	if err := s.WritePNG(o.Page); err != nil {
		return err
	}
	out := o.Out
	if o.JSON {
		out = o.Progress
	}
	fmt.Fprintf(out, "%s: %s, drawn\n", o.Page, counted(len(s.Cards), "sample"))
	return nil
}

// eye looks at samples as a model does.
type eye struct {
	meta    data.Meta
	plain   *data.Collator
	changed *data.Collator // nil: training changes nothing
}

func newEye(m data.Meta) (*eye, error) {
	e := &eye{meta: m}
	var err error
	if e.plain, err = data.NewCollator(m); err == nil && m.Augment != nil {
		e.changed, err = data.NewTrainingCollator(m)
	}
	return e, err
}

// card is what is shown of a sample. One that cannot be read has a card that says so.
func (e *eye) card(from data.Source, g data.Glimpse) (c picture.Card) {
	c.Text = fmt.Sprintf("episode %d, frame %d; sample %d", g.Episode, g.Frame, g.ID)
	if g.Set != "" {
		c.Text = "set " + g.Set + ", " + c.Text
	}
	x, err := from.Sample(g.Index)
	b := models.NewBatch(1, e.meta.Spec)
	if err == nil {
		err = e.plain.Collate([]data.Sample{x}, b)
	}
	if err != nil {
		c.Title = "cannot be used: " + err.Error()
		return c
	}
	c.Title = e.words(&x)
	if rows := x.Wordings(); rows != nil {
		c.Title += e.others(rows)
	}
	c.Photos = append(c.Photos, e.photos(b, ""))
	views := len(e.meta.Spec.Of(models.Image))
	for epoch := range uint64(max(1, pagePhotos/max(views, 1)-1)) {
		x.Epoch = epoch
		if e.changed != nil && e.changed.Collate([]data.Sample{x}, b) == nil {
			c.Photos = append(c.Photos, e.photos(b, fmt.Sprintf(", in epoch %d", epoch)))
		}
	}
	c.Tables = e.tables(&x, b)
	return c
}

// others are the wordings beside the plain one, which is the first.
func (e *eye) others(rows [][]int32) string {
	var in []string
	lexicon := e.meta.Lexicon()
	for i, row := range rows[1:] {
		if i == pageWordings {
			in = append(in, fmt.Sprintf("%d more", len(rows)-1-i))
			break
		}
		var words []string
		for _, t := range row {
			if t != e.meta.Padding() && int(t) < len(lexicon) {
				words = append(words, lexicon[t])
			}
		}
		in = append(in, strings.Join(words, " "))
	}
	return "   in training also: " + strings.Join(in, " / ")
}

// words are the tokens that the model sees, as words where it has any.
func (e *eye) words(x *data.Sample) string {
	var lines []string
	lexicon := e.meta.Lexicon()
	for k, f := range e.meta.Spec {
		if f.Type != models.Token {
			continue
		}
		var in []string
		for _, t := range x.Values[k].Ints {
			switch {
			case t == models.NoLabel:
			case lexicon == nil:
				in = append(in, strconv.Itoa(int(t)))
			case t != e.meta.Padding() && int(t) < len(lexicon):
				in = append(in, lexicon[t])
			}
		}
		if len(in) > pageTokens {
			in = append(in[:pageTokens], "…")
		}
		line := strings.Join(in, " ")
		if f.Name != models.Instruction {
			line = f.Called() + ": " + line
		} else if len(in) == 0 {
			line = "(no instruction)"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "   ")
}

// photos are the pictures of a batch of one.
func (e *eye) photos(b *models.Batch, how string) (out []picture.Photo) {
	for _, f := range e.meta.Spec {
		if f.Type != models.Image {
			continue
		}
		name := f.Called()
		name = name[strings.LastIndexAny(name, "./")+1:]
		if _, past, _ := models.ViewOf(f.Name); past > 0 {
			name += fmt.Sprintf(", %d before", past)
		}
		var m image.Image = data.Photo(e.meta, f.Shape, b.Floats(f.Name))
		out = append(out, picture.Photo{Title: name + how, Image: m})
	}
	return out
}

// tables are the numbers that are normalised, a table a feature.
func (e *eye) tables(x *data.Sample, b *models.Batch) (out []picture.Table) {
	in := e.meta.In(x.Set)
	for k, f := range e.meta.Spec {
		s := in.StatsOf(f.Name)
		if f.Type != models.Float || s == nil || len(x.Values[k].Floats) == 0 {
			continue
		}
		dim, values := s.Dim(), append([]float32(nil), x.Values[k].Floats...)
		title := f.Called()
		if s.Relative != nil {
			s.Relate(values, values, in.Now(x))
			title += ", relative"
		}
		n, now := len(values)/dim, 0 // times; that which the numbers beside the curves are of
		if f.Role == models.Input {
			now = n - 1
		}
		counts := valid(e.meta.Spec, x, f.Name, n)
		switch {
		case n > 1 && f.Role == models.Input:
			title += fmt.Sprintf(", %d times", n)
		case n > 1:
			title += fmt.Sprintf(", the next %d", n)
		}
		t := picture.Table{Title: title, Heads: [2]string{[]string{"now", "first"}[min(1, n-1-now)], "normalised"}}
		for i := range dim {
			if i == pageRows-1 && dim > pageRows {
				t.Rows = append(t.Rows, picture.Row{Name: fmt.Sprintf("and %d more", dim-i)})
				break
			}
			r := picture.Row{Name: s.Names[i], Lo: s.Min[i], Hi: s.Max[i], Band: [2]float64{s.Q01[i], s.Q99[i]}}
			for l := range n {
				v := math.NaN()
				if counts(l) {
					v = float64(values[l*dim+i])
				}
				r.Values = append(r.Values, v)
			}
			r.Texts = [2]string{strings.TrimSpace(fmt.Sprintf("%.4g %s", values[now*dim+i]+0, s.Units[i])), fmt.Sprintf("%.3g", b.Floats(f.Name)[now*dim+i]+0)}
			if c := s.Scale(i); c.Variation != data.Varies {
				r.Texts[1] = c.Variation.String()
			}
			t.Rows = append(t.Rows, r)
		}
		out = append(out, t)
	}
	return out
}

// valid says which of n times of a feature count.
func valid(spec models.Spec, x *data.Sample, name string, n int) func(l int) bool {
	k := -1
	switch name {
	case models.Actions:
		k = spec.Index(models.Valid)
	case models.State:
		k = spec.Index(models.Past)
	}
	return func(l int) bool { return k < 0 || len(x.Values[k].Floats) != n || x.Values[k].Floats[l] != 0 }
}
