package data

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/sniff"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// tensorFile is a safetensors file of which row i of each tensor is of sample i.
type tensorFile struct {
	f    *safetensors.File
	path string
	n    int // rows of the tensors that were looked at; -1 before the first

	fixed bool // a trained model reads it, whose sizes no key changes
}

// openTensorFile opens one.
func openTensorFile(path string) (*tensorFile, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	return &tensorFile{f: f, path: path, n: -1}, nil
}

// has reports whether there is a tensor called name.
func (t *tensorFile) has(name string) bool {
	_, ok := t.f.Tensor(name)
	return ok
}

// wholeTypes are the types of tokens, labels and episodes.
func wholeTypes() []string { return safetensors.Numbers()[4:] }

// tensor finds a tensor whose type is one of those allowed and whose rows are as
// many as those before it.
func (t *tensorFile) tensor(name, names string, types []string) (safetensors.Info, error) {
	info, ok := t.f.Tensor(name)
	if !ok {
		return info, fmt.Errorf("%s: the model needs the tensor %s %s, which the file does not have; it has %s", t.path, name, names, someOf(t.f.Names()))
	}
	if !slices.Contains(types, info.DType) {
		to := "float32"
		if !slices.Contains(types, "F32") {
			to = "int64"
		}
		return info, fmt.Errorf("%s: %s is %s, expected one of %s: save it as %s", t.path, name, info.DType, strings.Join(types, ", "), to)
	}
	if len(info.Shape) > 0 && info.Shape[0] < 1 {
		return info, fmt.Errorf("%s: %s has no rows: its shape is %v", t.path, name, info.Shape)
	}
	if len(info.Shape) > 0 && t.n >= 0 && info.Shape[0] != t.n {
		return info, fmt.Errorf("%s: %s has %d rows, the tensors before it %d", t.path, name, info.Shape[0], t.n)
	}
	return info, nil
}

// someOf lists the first of many names.
func someOf(names []string) string {
	const most = 12
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// shape checks a tensor's type and shape. want holds -1 for N and for what the
// model leaves open; the tensor's own sizes are returned.
func (t *tensorFile) shape(name, names string, types []string, want ...int) ([]int, error) {
	info, err := t.tensor(name, names, types)
	if err != nil {
		return nil, err
	}
	bad := len(info.Shape) != len(want)
	for i := 0; !bad && i < len(want); i++ {
		bad = want[i] >= 0 && info.Shape[i] != want[i] || info.Shape[i] < 1
	}
	if bad {
		return nil, fmt.Errorf("%s: %s is %s %v, expected %s with %s", t.path, name, info.DType, info.Shape, names, expected(want))
	}
	t.n = info.Shape[0]
	return info.Shape, nil
}

func expected(want []int) string {
	var s []string
	for _, w := range want {
		if w < 0 {
			s = append(s, "any")
		} else {
			s = append(s, fmt.Sprint(w))
		}
	}
	return "[" + strings.Join(s, ", ") + "]"
}

// orAny turns a need that is left open into shape's -1.
func orAny(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// tensorRows is a tensor of numbers, read by row as float32.
type tensorRows struct {
	t    *tensorFile
	info safetensors.Info
	size int // values a row

	// Pictures only.
	c, h, w int
	last    bool            // channels last in the file; rows are read as [C, H, W]
	bytes   bool            // U8: 0 … 255, brought to 0 … 1 and normalised
	table   [3][256]float32 // what a byte comes to, by channel
	raw     sync.Pool       // rows of bytes: *[]byte
}

// normalise fixes what bytes come to: (byte/255 - mean)/std of their channel.
func (x *tensorRows) normalise(mean, std [3]float32) {
	for ch := range x.table {
		for b := range x.table[ch] {
			x.table[ch][b] = (float32(float64(b)/255) - mean[ch]) / std[ch]
		}
	}
}

// values checks a tensor of numbers like shape and returns it.
func (t *tensorFile) values(name, names string, want ...int) (*tensorRows, error) {
	s, err := t.shape(name, names, safetensors.Numbers(), want...)
	if err != nil {
		return nil, err
	}
	info, _ := t.f.Tensor(name)
	size := 1
	for _, d := range s[1:] {
		size *= d
	}
	return &tensorRows{t: t, info: info, size: size}, nil
}

// images finds the pictures of a feature [C, H, W]. layout is nchw, nhwc, or
// empty for the one that fits. ambiguous says that both would.
func (t *tensorFile) images(f models.Feature, layout string) (x *tensorRows, ambiguous bool, err error) {
	name, im := f.Name, [3]int(f.Shape)
	info, err := t.tensor(name, "[N, C, H, W] or [N, H, W, C]", safetensors.Numbers())
	if err != nil {
		return nil, false, err
	}
	first, last := false, false
	if s := info.Shape; len(s) == 4 {
		first = s[1] == im[0] && s[2] == im[1] && s[3] == im[2]
		last = s[1] == im[1] && s[2] == im[2] && s[3] == im[0]
	}
	if ambiguous = first && last; ambiguous {
		first, last = layout != "nhwc", layout == "nhwc"
	}
	if layout == "nchw" && !first || layout == "nhwc" && !last || !first && !last {
		return nil, false, t.misfit(info, im, layout, first || last)
	}
	t.n = info.Shape[0]
	x = &tensorRows{t: t, info: info, size: im[0] * im[1] * im[2], c: im[0], h: im[1], w: im[2], last: last, bytes: info.DType == "U8"}
	x.normalise([3]float32{}, [3]float32{1, 1, 1})
	return x, ambiguous, nil
}

// misfit says why pictures do not fit the model, by the key that would change
// it. other says that they fit in the other layout.
func (t *tensorFile) misfit(info safetensors.Info, im [3]int, layout string, other bool) error {
	what := fmt.Sprintf("%s: %s is %s %v", t.path, info.Name, info.DType, info.Shape)
	if other {
		return keyError("data.layout", "%s, which does not fit data.layout %s; without the key the layout that fits is taken", what, layout)
	}
	if s := info.Shape; len(s) == 4 {
		channels := func(n int, of string) error {
			if t.fixed {
				return fmt.Errorf("%s, that is %d channels%s, and the model was trained on %d", what, n, of, im[0])
			}
			return keyError("model.channels", "%s, that is %d channels%s, and model.channels is %d: set model.channels to %d", what, n, of, im[0], n)
		}
		size := func(h, w int) error {
			if t.fixed {
				return fmt.Errorf("%s, that is pictures of %d×%d (width × height), and the model was trained on %d×%d: resize them to that", what, w, h, im[2], im[1])
			}
			if h != w {
				return keyError("model.image_size", "%s, that is pictures of %d×%d (width × height), and the model takes %d×%d: tensors are used as they are, so resize them to that", what, w, h, im[2], im[1])
			}
			return keyError("model.image_size", "%s, that is pictures of %d×%d, and model.image_size is %d: tensors are used as they are, so set model.image_size to %d or resize them", what, w, h, im[1], h)
		}
		switch {
		case s[2] == im[1] && s[3] == im[2] && s[1] > 0 && layout != "nhwc":
			return channels(s[1], "")
		case s[1] == im[1] && s[2] == im[2] && s[3] > 0 && layout != "nchw":
			return channels(s[3], " (the last)")
		case s[1] == im[0] && layout != "nhwc":
			return size(s[2], s[3])
		case s[3] == im[0] && layout != "nchw":
			return size(s[1], s[2])
		}
	}
	return fmt.Errorf("%s, expected [N, C, H, W] with %s, or [N, H, W, C] with %s", what, expected([]int{-1, im[0], im[1], im[2]}), expected([]int{-1, im[1], im[2], im[0]}))
}

// read returns row i: pictures as [C, H, W].
func (x *tensorRows) read(i int) ([]float32, error) {
	v := make([]float32, x.size)
	if x.bytes {
		return v, x.readBytes(i, v)
	}
	if err := x.t.f.Values(x.info.Name, i*x.size, v); err != nil {
		return nil, err
	}
	if x.last {
		v = channelsFirst(v, x.c)
	}
	return v, nil
}

// readBytes is read of a picture in bytes.
func (x *tensorRows) readBytes(i int, v []float32) error {
	p, ok := x.raw.Get().(*[]byte)
	if !ok {
		b := make([]byte, x.size)
		p = &b
	}
	defer x.raw.Put(p)
	raw := *p
	if err := x.t.f.Raw(x.info.Name, int64(i)*int64(x.size), raw); err != nil {
		return err
	}
	plane := x.h * x.w
	from, step := plane, 1 // of a channel to the next, and of a pixel
	if x.last {
		from, step = 1, x.c
	}
	for ch := range x.c {
		table, out, at := &x.table[ch%3], v[ch*plane:(ch+1)*plane], ch*from
		for j := range out {
			out[j] = table[raw[at]]
			at += step
		}
	}
	return nil
}

// channelsFirst returns a picture [H, W, C] as [C, H, W].
func channelsFirst(v []float32, c int) []float32 {
	out, plane := make([]float32, len(v)), len(v)/c
	for p := range plane {
		for ch := range c {
			out[ch*plane+p] = v[p*c+ch]
		}
	}
	return out
}

// valueRange is what a scan of a tensor saw.
type valueRange struct {
	lo, hi float32
	bad    map[int]bool // rows with a value that is not finite
}

// scan reads all values of a tensor and refuses NaN and infinity, by tensor,
// row and place; dims names the values of a row of one dimension, and may be
// nil. Rows that data.skip leaves out do not count. A lenient opening is told of
// the rows instead.
func (o *Opening) scan(x *tensorRows, dims []string) (valueRange, error) {
	r := valueRange{lo: float32(math.Inf(1)), hi: float32(math.Inf(-1)), bad: map[int]bool{}}
	if x.info.DType == "BOOL" || x.bytes {
		return r, nil // every value is one, and within 0 … 255
	}
	if k, ok := o.ranges[x.info.Name]; ok {
		return k, nil
	}
	total := x.info.Elements()
	buf := make([]float32, min(total, 1<<16))
	first := -1
	var value float32
	for at := 0; at < total; at += len(buf) {
		if err := o.tick(int64(at), int64(total), "values"); err != nil {
			return r, err
		}
		b := buf[:min(len(buf), total-at)]
		if err := x.t.f.Values(x.info.Name, at, b); err != nil {
			return r, err
		}
		for j, v := range b {
			if len(o.skip) > 0 && o.skips((at+j)/x.size) {
				continue
			}
			if v-v == 0 {
				r.lo, r.hi = min(r.lo, v), max(r.hi, v)
				continue
			}
			if o.skips((at + j) / x.size) {
				continue
			}
			if first < 0 {
				first, value = at+j, v
			}
			r.bad[(at+j)/x.size] = true
		}
	}
	if first < 0 || o.lenient() {
		if o.ranges != nil {
			o.ranges[x.info.Name] = r
		}
		return r, nil
	}
	row, in := first/x.size, first%x.size
	place := fmt.Sprintf("dimension %d", in)
	if dims != nil && dims[in] != fmt.Sprint("a", in) {
		place += " (" + dims[in] + ")"
	}
	if len(x.info.Shape) != 2 {
		place = fmt.Sprintf("the value at %v", x.info.Index(first))
	}
	note := ""
	if x.info.DType == "F64" && value == value {
		note = " as float32"
	}
	rows := fmt.Sprintf("%d of its %d rows have values that are not finite", len(r.bad), x.info.Shape[0])
	if len(r.bad) == 1 {
		rows = fmt.Sprintf("1 of its %d rows has values that are not finite", x.info.Shape[0])
	}
	what := "mend it, or leave it out of the file"
	if len(r.bad) > 1 {
		what = "mend them, or leave them out of the file"
	}
	if o.Wants.Target() != nil { // not predict's inputs
		what = fmt.Sprintf("mend it, or leave it out by data.skip: [%d]", row)
		if len(r.bad) > 1 {
			what = "mend them, or leave them out by data.skip (coordinator data check lists them)"
		}
	}
	return r, fmt.Errorf("%s: %s: row %d: %s is %v%s; %s: %s", x.t.path, x.info.Name, row, place, value, note, rows, what)
}

// findRange notes pictures whose values go to 255 where 0 to 1, or that
// normalised by mean and std, is meant. Normalised pictures have negative
// values, and none far from 0.
func (o *Opening) findRange(x *tensorRows, r valueRange, mean, std [3]float32) {
	if x.bytes || r.lo > r.hi {
		return
	}
	if r.lo >= 0 && r.hi > 1.5 || r.hi > 16 || r.lo < -16 {
		advice := "if values from 0 to 1 are meant, bring them there"
		switch {
		case r.hi > 16 && r.hi <= 255:
			advice = "if values from 0 to 1 are meant, divide them by 255, or save them as uint8, which is divided when it is read"
		case r.hi > 255 && r.hi <= 65535:
			advice = "if values from 0 to 1 are meant, divide them by the largest there can be, 65535 in 16 bits"
		}
		if mean != [3]float32{} || std != [3]float32{1, 1, 1} {
			advice = fmt.Sprintf("the model was trained on (value/255 - mean)/std with mean %v and std %v: save them as uint8, which is brought to that when it is read", mean, std)
		}
		o.find("range_255", x.t.path, advice,
			"the values of %s go from %v to %v and are used as they are", x.info.Name, r.lo, r.hi)
	}
}

// findZeros notes a file that ends in a long run of zeros.
func (o *Opening) findZeros(f *safetensors.File) {
	if z, ok := EndsInZeros(f); ok {
		o.findings = append(o.findings, z)
	}
}

// EndsInZeros is the finding that a file ends in a long run of zeros, as one
// does whose download or copy broke off; ok is false where it does not.
func EndsInZeros(f *safetensors.File) (z Finding, ok bool) {
	n, many := f.EndsInZeros()
	return Finding{Kind: "zero_tail", Where: f.Name(), What: fmt.Sprintf("the last %d of its %d bytes are zeros", n, f.Size()),
		Advice: "a download or copy that broke off ends so: compare it with its source"}, many
}

// whole reads a tensor of whole numbers; size is how many a row has.
func (t *tensorFile) whole(name string, size int) ([]int64, error) {
	v, err := t.f.Int64(name)
	if err != nil {
		return nil, err
	}
	if size > 0 && len(v)%size != 0 {
		return nil, fmt.Errorf("%s: %s has %d values, no whole rows of %d", t.path, name, len(v), size)
	}
	return v, nil
}

// vocab checks that all tokens are in [0, size), or, with size 0, returns the
// size that holds them. Rows that data.skip leaves out do not count; a lenient
// opening is told of each row that is wrong.
func (o *Opening) vocab(t *tensorFile, name string, tokens []int64, rowLen, size int, least int64) (int, error) {
	most, told := int64(0), -1
	for i, x := range tokens {
		if len(o.skip) > 0 && o.skips(i/rowLen) {
			continue
		}
		if x < least || x > math.MaxInt32-1 || size > 0 && x >= int64(size) {
			limit := size
			if limit == 0 {
				limit = math.MaxInt32
			}
			row := i / rowLen
			var err error = &tokenError{file: t.path, tensor: name, row: row, at: i % rowLen, token: x, limit: limit, labels: least < 0}
			if row == told {
				continue
			}
			if err := o.pass(Fault{Kind: "value", File: t.path, Sample: &row}, err); err != nil {
				return 0, err
			}
			told = row
			continue
		}
		most = max(most, x)
	}
	if size == 0 {
		size = int(most) + 1
	}
	return size, nil
}

// tokenError is a token outside the vocabulary.
type tokenError struct {
	file, tensor string
	row, at      int
	token        int64
	limit        int
	labels       bool // -1 is none
}

func (e *tokenError) Error() string {
	s := fmt.Sprintf("%s: %s: token %d of row %d is %d, outside the vocabulary [0, %d)", e.file, e.tensor, e.at, e.row, e.token, e.limit)
	switch {
	case e.labels && e.token == -100:
		s += "; -1 is no target here: write it in place of PyTorch's -100 (ignore_index)"
	case e.labels && e.token < 0:
		s += "; -1 alone is no target"
	}
	return s
}

func narrow(v []int64) []int32 {
	out := make([]int32, len(v))
	for i, x := range v {
		out[i] = int32(x)
	}
	return out
}

func (Tensors) form() string { return "a safetensors file" }

func (k Tensors) recognise(path string, folder bool) (*Recognised, error) {
	if folder || !strings.HasSuffix(path, ".safetensors") && !isTensors(path) {
		return nil, nil
	}
	w, err := tensorWants(path)
	return &Recognised{job.Data{Path: path, Options: k}, w}, err
}

// isTensors tells a safetensors file by its content, whatever its name.
func isTensors(path string) bool { return sniff.Of(headOf(path)) == sniff.Safetensors }

// tensorWants are the tensors that a file has.
func tensorWants(path string) (w models.Spec, err error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return w, err
	}
	defer f.Close()
	for n := range maxCameras {
		name := models.View(n, 0)
		t, ok := f.Tensor(name)
		if !ok {
			break
		}
		if len(t.Shape) != 4 {
			return w, fmt.Errorf("%s: %s has the shape %v, expected [N, C, H, W] or [N, H, W, C]", path, name, t.Shape)
		}
		image := models.Known(name, slices.Clone(t.Shape[1:])...)
		if c := t.Shape[3]; c < t.Shape[1] && c < t.Shape[2] { // no model says how many channels there are: fewer than rows and columns
			image.Shape = []int{c, t.Shape[1], t.Shape[2]}
		}
		w = append(w, image)
	}
	for _, x := range []models.Feature{models.Known(models.State, 0), models.Known(models.Instruction, 0), models.Known(models.VisionFeatures, 0, 0), models.Known(models.LanguageFeatures, 0, 0),
		models.Known(models.Labels, 0), models.Known(models.Actions, 0), models.Known(models.Valid, 0)} {
		t, ok := f.Tensor(x.Name)
		if !ok {
			continue
		}
		switch several := len(t.Shape) == 3; x.Name { // times, or actions, in a sample
		case models.State, models.Actions:
			if several {
				x = models.Known(x.Name, t.Shape[1], 0)
			}
		case models.Valid:
			if a, _ := f.Tensor(models.Actions); len(a.Shape) != 3 {
				continue // it says nothing of single actions
			} else {
				x.Shape = []int{a.Shape[1]}
			}
		}
		w = append(w, x)
	}
	return w, nil
}
