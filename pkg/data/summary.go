package data

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/pkg/models"
)

// Summary says what a data set holds, for people and scripts.
type Summary struct {
	Name            string        `json:"name,omitempty"`  // of a set of a mixture
	Share           float64       `json:"share,omitempty"` // of the mixture's stream
	Sets            []Summary     `json:"sets,omitempty"`  // of a mixture, which has most of what follows by set
	Kind            string        `json:"kind"`
	Path            string        `json:"path,omitempty"`
	Samples         int           `json:"samples"`
	Episodes        int           `json:"episodes"`
	LeftOut         int           `json:"left_out,omitempty"` // by data.skip; not in Samples
	Train           int           `json:"train"`              // samples
	Heldout         int           `json:"heldout"`            // samples
	HeldoutEpisodes int           `json:"heldout_episodes"`
	Camera          *Camera       `json:"camera,omitempty"`
	Cameras         []*Camera     `json:"cameras,omitempty"` // those beside Camera, where samples have several pictures
	Instructions    *Instructions `json:"instructions,omitempty"`
	Actions         []Dimension   `json:"actions,omitempty"`   // of the training split
	Normalize       string        `json:"normalize,omitempty"` // in words: mode, epsilon, clip, mask
	Numbers         []Numbers     `json:"numbers,omitempty"`   // other features that are normalised
	Findings        []Finding     `json:"findings"`
}

// Camera is what is known of a data set's pictures.
type Camera struct {
	Name    string        `json:"name,omitempty"`
	Input   [3]int        `json:"input"`             // channels, height, width that the model takes; zeros where there is none
	Looked  int           `json:"looked"`            // pictures that were decoded, of Summary.Samples
	Sizes   []PictureSize `json:"sizes"`             // of those, the most frequent first; at most 8
	Equal   bool          `json:"equal"`             // all of the data where that is known, else all that were decoded
	Black   int           `json:"black"`             // of those that were decoded
	Plain   int           `json:"plain"`             // of one colour, the black ones among them
	Squeeze float64       `json:"squeeze,omitempty"` // how much narrower than high things become; 1: not at all
	Range   *[2]float32   `json:"range,omitempty"`   // least and largest value, where pictures are given as floats
}

// PictureSize is a size of pictures and how many have it.
type PictureSize struct {
	Width    int `json:"width"`
	Height   int `json:"height"`
	Pictures int `json:"pictures"`
}

// Instructions are what is known of a data set's instructions in words.
type Instructions struct {
	Different  int      `json:"different"`
	Wordings   int      `json:"wordings,omitempty"` // in which training shows them, all; 0: as they are
	Empty      int      `json:"empty"`              // samples without a word
	Longest    int      `json:"longest"`            // tokens, both splits
	Tokens     int      `json:"tokens"`             // that the model sees
	Cut        int      `json:"cut"`                // samples whose instruction is longer
	Merged     int      `json:"merged"`             // different instructions that are the same to the model since they are cut
	Vocabulary int      `json:"vocabulary"`         // words, with padding and unknown
	Unknown    []string `json:"unknown"`            // words of the held-out split that the vocabulary lacks; at most 20
	UnknownAll int      `json:"unknown_all"`
	UnknownIn  int      `json:"unknown_in"`          // held-out samples that have one
	Tokenizer  string   `json:"tokenizer,omitempty"` // the file of a pretrained one, whose tokens Longest and Unknown count; empty: words
}

// Numbers are a feature of numbers beside the actions.
type Numbers struct {
	Name       string      `json:"name"`
	Normalize  string      `json:"normalize"`
	Dimensions []Dimension `json:"dimensions"` // of its last axis
}

// Dimension is a dimension of the actions, or of other numbers, over the
// training split.
type Dimension struct {
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Min      float64 `json:"min"`
	Max      float64 `json:"max"`
	Mean     float64 `json:"mean"`
	Std      float64 `json:"std"`
	Constant bool    `json:"constant"`
}

// about is what a set knows of itself beside its samples.
type about struct {
	path     string
	camera   string
	n        int // samples, those left out too
	episodes int
	held     int                // episodes
	heldOut  []int              // which
	apart    bool               // they are a set of their own
	episode  func(i int) int    // of sample i
	table    *table             // of a file source with words; nil elsewhere
	place    func(id int) Fault // where a sample lies: the places of a Fault; may be nil
}

// Survey looks at samples and sums up the data set. Its error is ctx's alone:
// what is wrong with samples is told to s.Fault.
func (d *Set) Survey(ctx context.Context, s Survey) (Summary, error) {
	if d.parts != nil {
		return d.surveyParts(ctx, s)
	}
	facts, err := d.look(ctx, s)
	a := d.about
	sum := Summary{Kind: d.meta.Kind, Path: a.path, Samples: d.train.n + d.heldout.n, Episodes: a.episodes, Train: d.train.n, Heldout: d.heldout.n,
		LeftOut: a.n - d.train.n - d.heldout.n, HeldoutEpisodes: a.held, Findings: slices.Clone(d.Findings())}
	if sum.Findings == nil {
		sum.Findings = []Finding{}
	}
	for k, f := range d.meta.Spec {
		switch stats := d.meta.StatsOf(f.Name); {
		case f.Type == models.Image:
			sum.camera(d, f, facts[k], s.AnySize)
		case f.Name == models.Instruction && a.table != nil:
			if e := sum.instructions(d); e != nil && err == nil {
				err = e
			}
		case stats == nil:
		case f.Name == models.Actions:
			sum.Normalize, sum.Actions = stats.How(), stats.dimensions()
		default:
			sum.Numbers = append(sum.Numbers, Numbers{f.Called(), stats.How(), stats.dimensions()})
		}
	}
	return sum, err
}

func (s *Stats) dimensions() (out []Dimension) {
	for i := range s.Names {
		out = append(out, Dimension{s.Names[i], s.Units[i], s.Min[i], s.Max[i], s.Mean[i], s.Std[i], s.Min[i] == s.Max[i]})
	}
	return out
}

func isImage(f models.Feature) bool { return f.Type == models.Image }

func (s *Summary) find(kind, where, advice, what string, args ...any) {
	s.Findings = append(s.Findings, Finding{Kind: kind, Where: where, What: fmt.Sprintf(what, args...), Advice: advice})
}

// muchSqueezed is the change of the aspect ratio from which a finding tells of
// it: a camera's 4:3 or 3:2 made square, as is usual, stays below.
const muchSqueezed = 1.6

// pictures are the features of pictures.
func (d *Set) pictures() (all []models.Feature) {
	for _, f := range d.meta.Spec {
		if f.Type == models.Image {
			all = append(all, f)
		}
	}
	return all
}

// cameraName is what a feature of pictures is called beside the data's others: the end of
// its name, as data.cameras takes it, where that is of one camera alone.
func (d *Set) cameraName(of models.Feature) string {
	all := d.pictures()
	if len(all) == 1 {
		return d.about.camera
	}
	short := func(f models.Feature) string {
		name := f.Called()
		return name[strings.LastIndexAny(name, "./")+1:]
	}
	for _, f := range all {
		if f.Name != of.Name && short(f) == short(of) {
			return of.Called()
		}
	}
	return short(of)
}

// camera sums up the pictures and tells what is odd about them.
func (s *Summary) camera(d *Set, of models.Feature, f pictureFacts, anySize bool) {
	c := &Camera{Name: d.cameraName(of), Input: [3]int(of.Shape), Looked: f.looked, Equal: f.looked > 1 && f.equal, Black: f.black, Plain: f.plain}
	if s.Camera == nil {
		s.Camera = c
	} else {
		s.Cameras = append(s.Cameras, c)
	}
	if anySize {
		c.Input = [3]int{}
	}
	where, blind := "the pictures", "the model sees nothing there: see that the right pictures were stored"
	if c.Name != "" { // of the data set's several
		where, blind = "camera "+c.Name, "the model sees nothing there: choose another camera (data.camera)"
		if len(d.pictures()) > 1 {
			blind = "the model sees nothing there: leave it out (data.cameras)"
		}
	}
	several := func(n int) string {
		if n == s.Samples {
			return fmt.Sprintf("all %d pictures", n)
		}
		return fmt.Sprintf("all %d pictures that were looked at, of %d,", n, s.Samples)
	}
	all := several(f.looked)
	if t := d.about.table; t != nil && t.pictures[of.Name] != nil && len(t.pictures[of.Name].sums) > 0 { // known of every picture
		ids, sums := d.all(), t.pictures[of.Name].sums
		c.Equal, all = len(ids) > 1 && !slices.ContainsFunc(ids, func(i int32) bool { return sums[i] != sums[ids[0]] }), several(len(ids))
	}
	switch {
	case f.looked == 0:
	case c.Equal && f.black == f.looked:
		s.find("equal_pictures", where, blind, "%s are the same, and black", all)
	case c.Equal:
		s.find("equal_pictures", where, "the model learns nothing from them", "%s are the same", all)
	case f.black == f.looked:
		s.find("black_pictures", where, blind, "%s are black", several(f.looked))
	case f.plain == f.looked && f.looked > 1:
		s.find("plain_pictures", where, blind, "%s are of one colour each", several(f.looked))
	}
	for size, n := range f.sizes {
		c.Sizes = append(c.Sizes, PictureSize{size[0], size[1], n})
	}
	slices.SortFunc(c.Sizes, func(a, b PictureSize) int {
		return cmp.Or(b.Pictures-a.Pictures, a.Width-b.Width, a.Height-b.Height)
	})
	worst := PictureSize{}
	for _, p := range c.Sizes {
		if q := p.squeeze(c.Input); !anySize && (c.Squeeze == 0 || max(q, 1/q) > max(c.Squeeze, 1/c.Squeeze)) {
			c.Squeeze, worst = q, p
		}
	}
	if c.Squeeze > muchSqueezed || c.Squeeze > 0 && c.Squeeze < 1/muchSqueezed {
		s.find("squeezed", where, "cut them to the model's shape beforehand if the shapes of things matter",
			"pictures of %d×%d are squeezed to %d×%d: things become %s", worst.Width, worst.Height, c.Input[2], c.Input[1], narrower(c.Squeeze))
	}
	c.Sizes = c.Sizes[:min(len(c.Sizes), 8)]
	if f.floats {
		c.Range = &[2]float32{f.lo, f.hi} // opening told of values up to 255
	}
}

// squeeze is how much narrower than high a thing becomes: 1 is none.
func (p PictureSize) squeeze(input [3]int) float64 {
	return float64(p.Width) * float64(input[1]) / (float64(p.Height) * float64(input[2]))
}

func narrower(q float64) string {
	if q >= 1 {
		return fmt.Sprintf("%.1f times narrower", q)
	}
	return fmt.Sprintf("%.1f times flatter", 1/q)
}

// instructions sums up the words and tells what the model cannot see of them.
func (s *Summary) instructions(d *Set) error {
	t, m := d.about.table, d.meta
	tok, err := m.Tokens()
	if err != nil || tok == nil {
		return err
	}
	in := &Instructions{Tokens: m.Spec.Len(models.Instruction, 0), Vocabulary: len(m.Lexicon()), Unknown: []string{}}
	if m.Tokenizer != nil {
		in.Tokenizer = m.Tokenizer.Name
	}
	s.Instructions = in
	used := make([]int, len(t.texts)) // samples
	for _, i := range d.all() {
		used[t.text[i]]++
	}
	held := make([]int, len(t.texts))
	for i := range d.heldout.n {
		held[t.text[d.heldout.index[i]]]++
	}
	unknown, seen := map[string]bool{}, map[string]int{}
	different, wordings, unseen := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for k, text := range t.texts {
		if used[k] == 0 {
			continue
		}
		cut := false
		for _, other := range t.sayings(k)[1:] {
			parts, err := tok.Words(other)
			if err != nil {
				return err
			}
			wordings[other], cut = true, cut || len(parts) > in.Tokens
			in.Longest = max(in.Longest, len(parts))
			for _, w := range parts {
				if !w.Known && used[k] > held[k] {
					unseen[w.Text] = true
				}
			}
		}
		different[text], text = true, t.sayings(k)[0]
		wordings[text] = true
		parts, err := tok.Words(text)
		if err != nil {
			return err
		}
		var words []string
		for _, w := range parts {
			words = append(words, w.Text)
		}
		in.Different = len(different)
		in.Longest = max(in.Longest, len(words))
		if len(words) == 0 {
			in.Empty += used[k]
		}
		if cut || len(words) > in.Tokens {
			in.Cut += used[k]
		}
		if row := strings.Join(words[:min(len(words), in.Tokens)], " "); len(words) > in.Tokens || seen[row] == 2 {
			if seen[row] > 0 {
				in.Merged++
			}
			seen[row] = 2
		} else if seen[row] == 0 {
			seen[row] = 1
		}
		lacks := false
		for _, w := range parts {
			if held[k] > 0 && !w.Known {
				unknown[w.Text], lacks = true, true
			}
		}
		if lacks {
			in.UnknownIn += held[k]
		}
	}
	if t.said != nil {
		in.Wordings = len(wordings)
	}
	in.UnknownAll = len(unknown)
	in.Unknown = append(in.Unknown, slices.Sorted(maps.Keys(unknown))...)
	in.Unknown = in.Unknown[:min(len(in.Unknown), 20)]
	if in.Cut > 0 {
		merged := ""
		if in.Merged > 0 {
			merged = fmt.Sprintf(", and %d of %d instructions become equal to others", in.Merged, in.Different)
		}
		s.find("cut_instructions", "", fmt.Sprintf("set data.max_tokens to %d to keep them whole", in.Longest),
			"%d of %d samples have an instruction of more than %d %ss, which is cut%s", in.Cut, s.Samples, in.Tokens, in.unit(), merged)
	}
	if lacks := slices.Sorted(maps.Keys(unseen)); len(lacks) > 0 && !tok.Pretrained() { // of a run that took its vocabulary from others
		s.find("unknown_words", "data.wordings", "the run keeps its vocabulary: the model sees one token for all of that", "wordings have words that the vocabulary lacks: %s", some(lacks, len(lacks), 5))
	}
	switch {
	case in.UnknownIn > 0 && tok.Pretrained():
		s.find("unknown_words", "held-out split", "the model sees one token for all of that", "%d of %d samples have parts that the tokenizer has no token for (%s)", in.UnknownIn, s.Heldout, strings.Join(in.Unknown, ", "))
	case in.UnknownIn > 0:
		s.find("unknown_words", "held-out split", "the model has never seen them", "%d of %d samples have words that the training split lacks: %s",
			in.UnknownIn, s.Heldout, some(in.Unknown, in.UnknownAll, 5))
	}
	return nil
}

// unit is what the tokens are.
func (in *Instructions) unit() string {
	if in.Tokenizer != "" {
		return "token"
	}
	return "word"
}

// some lists the first of a number of words.
func some(words []string, of, most int) string {
	out := strings.Join(words[:min(len(words), most)], ", ")
	if of > most {
		out += fmt.Sprintf(" and %d more", of-most)
	}
	return out
}

// Text is the summary for people. The short form has the actions in a line
// and leaves out the findings, which a log tells as warnings.
func (s Summary) Text(short bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s data: %s of %s; %d to train on, %d held out", s.Kind, counted(s.Samples, "sample"), counted(s.Episodes, "episode"), s.Train, s.Heldout)
	if s.HeldoutEpisodes > 0 {
		fmt.Fprintf(&b, " (%s)", counted(s.HeldoutEpisodes, "episode"))
	}
	if s.LeftOut > 0 {
		fmt.Fprintf(&b, ", %d left out by data.skip", s.LeftOut)
	}
	b.WriteByte('\n')
	for _, of := range s.Sets {
		fmt.Fprintf(&b, "set %s, %.2f %% of the stream: %s", of.Name, 100*of.Share, of.Text(short))
	}
	if c := s.Camera; c != nil {
		fmt.Fprintf(&b, "  pictures      %s\n", c.text(s.Samples))
	}
	for _, c := range s.Cameras {
		fmt.Fprintf(&b, "                %s\n", c.text(s.Samples))
	}
	if in := s.Instructions; in != nil {
		ways := ""
		if in.Wordings > 0 {
			ways = fmt.Sprintf(" in %s", counted(in.Wordings, "wording"))
		}
		fmt.Fprintf(&b, "  instructions  %d different%s, the longest of %s; the model sees %d; vocabulary of %d", in.Different, ways, counted(in.Longest, in.unit()), in.Tokens, in.Vocabulary)
		for _, x := range []struct {
			n    int
			what string
		}{{in.Empty, "samples have none"}, {in.Cut, "samples' are cut"}, {in.Merged, "become equal to others when cut"}, {in.UnknownAll, "held-out words are unknown"}} {
			if x.n > 0 {
				fmt.Fprintf(&b, "; %d %s", x.n, x.what)
			}
		}
		b.WriteByte('\n')
	}
	all := []Numbers{{"actions", s.Normalize, s.Actions}}
	for _, n := range append(all, s.Numbers...) {
		if len(n.Dimensions) > 0 {
			n.text(&b, short)
		}
	}
	if !short {
		for _, f := range s.Findings {
			fmt.Fprintf(&b, "warning: %s\n", f)
		}
	}
	return b.String()
}

func (n Numbers) text(b *strings.Builder, short bool) {
	fmt.Fprintf(b, "  %-13s %s, normalised by %s", n.Name, counted(len(n.Dimensions), "dimension"), n.Normalize)
	var names, constant []string
	for _, d := range n.Dimensions {
		names = append(names, d.Name)
		if d.Constant {
			constant = append(constant, d.Name)
		}
	}
	fmt.Fprintf(b, ": %s", some(names, len(names), 16))
	if len(constant) > 0 {
		fmt.Fprintf(b, "; never varying: %s", some(constant, len(constant), 16))
	}
	b.WriteByte('\n')
	if !short {
		n.table(b)
	}
}

func (n Numbers) table(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tleast\tmean\tlargest\tstd\tunit\t")
	for _, d := range n.Dimensions {
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.4g\t%.4g\t%s\t\n", d.Name, d.Min+0, d.Mean+0, d.Max+0, d.Std, d.Unit) // + 0: -0 is 0
	}
	w.Flush()
}

func (c *Camera) text(samples int) string {
	var b strings.Builder
	if c.Name != "" {
		fmt.Fprintf(&b, "%s: ", c.Name)
	}
	if c.Looked == 0 {
		return b.String() + "none was looked at"
	}
	var sizes []string
	for _, p := range c.Sizes {
		sizes = append(sizes, fmt.Sprintf("%d×%d", p.Width, p.Height))
	}
	b.WriteString(some(sizes, len(sizes), 3))
	target := fmt.Sprintf("%d×%d", c.Input[2], c.Input[1])
	switch q := c.Squeeze; {
	case c.Input == [3]int{} || len(sizes) == 1 && sizes[0] == target:
	case q < 0.99 || q > 1.01:
		fmt.Fprintf(&b, ", squeezed to %s: things become %s", target, narrower(q))
	default:
		fmt.Fprintf(&b, ", resized to %s", target)
	}
	if c.Range != nil {
		fmt.Fprintf(&b, ", values from %v to %v", c.Range[0], c.Range[1])
	}
	if c.Equal {
		b.WriteString(", all the same")
	}
	if c.Black > 0 {
		fmt.Fprintf(&b, ", %d black", c.Black)
	}
	if c.Looked < samples {
		fmt.Fprintf(&b, " (%d of %d looked at)", c.Looked, samples)
	}
	return b.String()
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
