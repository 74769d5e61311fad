package attention

import (
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/picture"
)

// Draw writes the pictures of a report: out is a PNG file or a directory.
func (r *Report) Draw(out string) error {
	if !strings.EqualFold(filepath.Ext(out), ".png") {
		if err := os.MkdirAll(out, 0o755); err != nil {
			return err
		}
		out = filepath.Join(out, "attention.png")
	} else if _, err := os.Stat(filepath.Dir(out)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--out %s: %w", out, err)
	}
	if err := r.mapsPage().WritePNG(out); err != nil {
		return err
	}
	if r.photo == nil {
		return nil
	}
	return r.photoPage().WritePNG(strings.TrimSuffix(out, filepath.Ext(out)) + "-picture.png")
}

// share is the scale of panels that are each drawn in their own range.
var share = picture.Scale{Label: "weight / greatest weight of the panel", Min: 0, Max: 1, Colours: picture.Heat}

// shared scales a map to its greatest weight, which it returns.
func shared(w []float32) ([]float32, float32) {
	_, hi := picture.Range(w)
	out := make([]float32, len(w))
	for i, v := range w {
		if hi > 0 {
			out[i] = v / float32(hi)
		}
	}
	return out, float32(hi)
}

// mapsPage is a grid of maps, query by key: a row a layer, a column a head, and
// a last row with the rollout of each stack.
func (r *Report) mapsPage() picture.Page {
	side := 240
	for _, l := range r.Layers {
		if len(l.Positions) > 12 {
			side = 300
		}
	}
	page := picture.Page{Title: fmt.Sprintf("Attention of %s, step %d: query down, key across", r.Kind, r.Step), Width: side, Height: side, Bar: &share}
	panel := func(title string, n int, w []float32, labels []string) picture.Panel {
		v, hi := shared(w)
		m := &picture.Heatmap{Title: fmt.Sprintf("%s  (max %.2f)", title, hi), X: "key", Y: "query", Rows: n, Cols: n, Values: v, Scale: share}
		if n <= 16 {
			m.XTicks, m.YTicks = labels, labels
		}
		return m
	}
	for _, l := range r.Layers {
		var row []picture.Panel
		for _, h := range l.Heads {
			row = append(row, panel(fmt.Sprintf("%s head %d", shortName(l.Name), h.Head), len(l.Positions), h.Weights, l.Positions))
		}
		page.Panels = append(page.Panels, row)
	}
	var row []picture.Panel
	for _, s := range r.Rollout {
		row = append(row, panel(shortName(s.Stack)+" rollout", len(s.Positions), s.Weights, s.Positions))
	}
	page.Panels = append(page.Panels, row)
	return page
}

// shortName fits a block's name over a small panel.
func shortName(name string) string {
	return strings.NewReplacer("cross_modal_fusion", "fusion", "vision_encoder", "vision", "language_encoder", "language", "transformer_blocks.", "", "transformer_blocks", "block", ".blocks.", ".").Replace(name)
}

// photoPage lays over the picture what the class token (or, in a fusion over
// patches, the words) sees of it: the picture and the rollout, then a row a layer.
func (r *Report) photoPage() picture.Page {
	scale := share
	scale.Label = "weight, from the panel's least to its greatest"
	page := picture.Page{Title: fmt.Sprintf("Attention over the picture, step %d", r.Step), Width: 240, Height: 260, Bar: &scale}
	row := []picture.Panel{&picture.Overlay{Title: "as the model sees it", Photo: r.photo}}
	over := func(title string, st stack, w []float32) picture.Panel {
		w = w[st.first : st.first+st.grid*st.grid]
		lo, hi := picture.Range(w)
		return &picture.Overlay{Title: fmt.Sprintf("%s  (%.3f to %.3f)", title, lo, hi), Photo: r.photo, Rows: st.grid, Cols: st.grid, Values: w}
	}
	for _, s := range r.Rollout {
		if st := r.stacks[s.Stack]; st.grid > 0 {
			w, _ := r.readOut(s)
			row = append(row, over(shortName(s.Stack)+" rollout", st, w))
		}
	}
	page.Panels = append(page.Panels, row)
	for _, l := range r.Layers {
		st := r.stacks[l.Stack]
		if st.grid == 0 {
			continue
		}
		n, viewers := len(l.Positions), r.viewers(l)
		var row []picture.Panel
		for _, h := range l.Heads {
			row = append(row, over(fmt.Sprintf("%s head %d", shortName(l.Name), h.Head), st, meanRows(h.Weights, n, viewers)))
		}
		page.Panels = append(page.Panels, row)
	}
	return page
}

// viewers are the positions of a layer that look and are no patches: the class token,
// or words; all that are visible where there is none.
func (r *Report) viewers(l Layer) []bool {
	st := r.stacks[l.Stack]
	out := make([]bool, len(l.Positions))
	for i := range out {
		_, _, patch := st.patch(i)
		out[i] = !patch && st.visible[i]
	}
	if !slices.Contains(out, true) {
		return st.visible
	}
	return out
}

// Overview is one small picture of a report: what each stack's results are made of,
// laid over the picture where there is one, and under it each layer's mean over its
// heads.
func (r *Report) Overview() (image.Image, error) {
	page := picture.Page{Title: fmt.Sprintf("Attention, step %d: rollout, then layers, mean of heads", r.Step), Width: 180, Height: 200}
	var first []picture.Panel
	if r.photo != nil {
		first = append(first, &picture.Overlay{Title: "as the model sees it", Photo: r.photo})
	}
	panel := func(title string, st stack, n int, w, seen []float32) picture.Panel {
		if st.grid > 0 && r.photo != nil {
			return &picture.Overlay{Title: title, Photo: r.photo, Rows: st.grid, Cols: st.grid, Values: seen[st.first : st.first+st.grid*st.grid]}
		}
		v, _ := shared(w)
		return &picture.Heatmap{Title: title, X: "key", Y: "query", Rows: n, Cols: n, Values: v, Scale: share}
	}
	for _, s := range r.Rollout {
		seen, _ := r.readOut(s)
		first = append(first, panel(shortName(s.Stack), r.stacks[s.Stack], len(s.Positions), s.Weights, seen))
	}
	page.Panels = append(page.Panels, first)
	of := "" // the stack of the row
	var row []picture.Panel
	for _, l := range r.Layers {
		if l.Stack != of && len(row) > 0 {
			page.Panels, row = append(page.Panels, row), nil
		}
		of = l.Stack
		n := len(l.Positions)
		mean := make([]float32, n*n)
		for _, h := range l.Heads {
			for i, w := range h.Weights {
				mean[i] += w / float32(len(l.Heads))
			}
		}
		row = append(row, panel(shortName(l.Name), r.stacks[l.Stack], n, mean, meanRows(mean, n, r.viewers(l))))
	}
	page.Panels = append(page.Panels, row)
	return page.Image()
}
