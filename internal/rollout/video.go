package rollout

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/film"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
)

// video draws trials: the first nine into one animated picture, beside one another, or
// each of them, seen from all sides, into a file of its own in a folder.
type video struct {
	path   string
	folder bool
	small  *film.Pen
	tiles  []tile // of a file
	first  []int  // their episodes
}

const (
	mostTiles = 9
	tileSide  = 192 // pixels of a picture among several
	aloneSide = 288 // of a picture of one trial
	frameTime = 12  // hundredths of a second a step
	lastTime  = 200
	gap       = 8 // pixels around a tile
	border    = 4
)

var (
	paper = color.RGBA{255, 255, 255, 255}
	ink   = color.RGBA{20, 20, 20, 255}
	pale  = color.RGBA{110, 110, 110, 255}
	good  = color.RGBA{0, 140, 60, 255}
	poor  = color.RGBA{200, 40, 30, 255}
)

// newVideo writes to path: a file if it ends in .png or .gif, else a folder, which is
// made; nothing where path is empty.
func newVideo(path string) (*video, error) {
	v := &video{path: path, folder: !film.Known(path)}
	if path == "" {
		return v, nil
	}
	var err error
	if v.small, err = film.NewPen(13); err != nil {
		return nil, err
	}
	at, err := os.Stat(path)
	switch ext := filepath.Ext(path); {
	case err == nil && at.IsDir() != v.folder:
		return nil, usage.Errorf("--out %s: is there already, and is no %s", path, map[bool]string{true: "folder; name one, or a file that ends in .png or .gif", false: "file; name another"}[v.folder])
	case err != nil && v.folder && ext != "":
		return nil, usage.Errorf("--out %s: %s is not written; want a name that ends in .png (animated) or .gif, or a folder for a file of each episode", path, ext)
	case v.folder:
		return v, os.MkdirAll(path, 0o755)
	}
	return v, nil
}

// ended takes a trial that is over.
func (v *video) ended(o Outcome, t *data.Trial) error {
	if v.path == "" {
		return nil
	}
	if v.folder {
		how := "failed"
		if o.Success {
			how = "done"
		}
		name := fmt.Sprintf("%04d-%s-%s.png", o.Episode, strings.ReplaceAll(o.Task, " ", "-"), how)
		return v.write(filepath.Join(v.path, name), []tile{{o, t, t.Views(), aloneSide}})
	}
	if o.Episode < mostTiles {
		at, _ := slices.BinarySearch(v.first, o.Episode)
		v.first = slices.Insert(v.first, at, o.Episode)
		v.tiles = slices.Insert(v.tiles, at, tile{o, t, t.Views()[:1], tileSide})
	}
	return nil
}

// close writes the file.
func (v *video) close() error {
	if v.folder || len(v.tiles) == 0 {
		return nil
	}
	if len(v.tiles) == 1 {
		v.tiles[0].views, v.tiles[0].side = v.tiles[0].trial.Views(), aloneSide
	}
	return v.write(v.path, v.tiles)
}

// write makes a film of tiles that play at the same time.
func (v *video) write(path string, tiles []tile) error {
	columns := min(len(tiles), 3)
	if len(tiles) == 4 {
		columns = 2
	}
	lines, last := 1, 0
	for _, t := range tiles {
		lines = max(lines, len(v.small.Lines(t.Instruction, t.room())))
		last = max(last, t.trial.Moments()-1)
	}
	size := image.Pt(tiles[0].width()+gap, tiles[0].side+2*border+(lines+1)*v.small.Height()+gap)
	rows := (len(tiles) + columns - 1) / columns
	still := make([]*image.RGBA, len(tiles)) // of trials that are over
	drawn := func(k int) *image.RGBA {
		m := image.NewRGBA(image.Rect(0, 0, min(columns, len(tiles))*size.X+gap, rows*size.Y+gap))
		draw.Draw(m, m.Rect, image.NewUniform(paper), image.Point{}, draw.Src)
		for i, t := range tiles {
			at := image.Pt(gap+i%columns*size.X, gap+i/columns*size.Y)
			tm, over := still[i], k >= t.trial.Moments()-1
			if tm == nil || !over {
				tm = t.draw(v.small, lines, min(k, t.trial.Moments()-1))
			}
			if over {
				still[i] = tm
			}
			draw.Draw(m, tm.Rect.Add(at), tm, image.Point{}, draw.Src)
		}
		return m
	}
	return film.Write(path, film.Film{Frames: last + 1, Draw: drawn, Hold: func(k int) int {
		if k == last {
			return lastTime
		}
		return frameTime
	}})
}

// tile is a trial's place in a film.
type tile struct {
	Outcome
	trial *data.Trial
	views []string
	side  int
}

func (t tile) width() int { return len(t.views)*(t.side+border) + border }

// room is that of a line of text.
func (t tile) room() int { return t.width() - 2*border }

// draw is the tile at a moment: the pictures in a frame, the instruction in so many
// lines, and what has become of it.
//
//	┌───────┬───────┐
//	│ front │ side  │
//	└───────┴───────┘
//	push the red cube to the left
//	step 7
func (t tile) draw(pen *film.Pen, lines, moment int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, t.width(), t.side+2*border+(lines+1)*pen.Height()))
	draw.Draw(m, m.Rect, image.NewUniform(paper), image.Point{}, draw.Src)
	said, c, frame := fmt.Sprintf("step %d", moment), pale, paper
	switch over := moment == t.trial.Moments()-1; {
	case over && t.Success:
		said, c, frame = fmt.Sprintf("done in %d steps", t.Steps), good, good
	case over:
		said, c, frame = fmt.Sprintf("not done in %d steps", t.Steps), poor, poor
	}
	draw.Draw(m, image.Rect(0, 0, t.width(), t.side+2*border), image.NewUniform(frame), image.Point{}, draw.Src)
	for i, view := range t.views {
		seen := t.trial.Picture(view, t.side, moment)
		for y := range t.side {
			for x := range t.side {
				from := 3 * (y*t.side + x)
				m.SetRGBA(border+i*(t.side+border)+x, border+y, color.RGBA{seen[from], seen[from+1], seen[from+2], 255})
			}
		}
	}
	y := t.side + 2*border
	for _, line := range pen.Lines(t.Instruction, t.room()) {
		pen.Write(m, image.Pt(border, y), ink, line)
		y += pen.Height()
	}
	pen.Write(m, image.Pt(border, t.side+2*border+lines*pen.Height()), c, said)
	return m
}
