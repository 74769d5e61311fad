package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/data/internal/frames"
	"github.com/vlaring/vlaring/pkg/data/internal/lerobot"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Import says which videos of a data set become frames, and where these go. What is
// empty is the job's.
type Import struct {
	Cameras []string // features of video, whole or by their last part; the job's, or all
	Size    int      // longest side of a frame in the store; smaller ones stay as they are
	Frames  string   // folder of the store; that of the data set
}

// ImportPlan is what an import would do. Nothing has been done yet.
type ImportPlan struct {
	Path   string // of the data set
	Dir    string // of the store
	Size   int
	Videos int    // all that the data set has of the cameras
	Ready  int    // of these, they are in the store
	Frames int    // to be decoded, by the tables
	Bytes  int64  // that they will take, by meta/info.json
	FFmpeg string // version; empty: nothing is to be done

	set  *lerobot.Set
	tool *frames.FFmpeg
	todo []video
}

// video is one file to be decoded.
type video struct {
	path     string // below the data set
	camera   string
	clips    map[int64]lerobot.Clip // of the camera
	episodes []lerobot.Episode      // that lie in it
	frames   int
}

// PlanImport looks at what is there of the data that cfg names for a model of those
// wants. Paths of the job that are not absolute are relative to baseDir. Errors name
// what is missing: the data set, a camera, a video with its episode, an ffmpeg where
// there is something to do.
func PlanImport(cfg job.Data, wants models.Spec, baseDir string, o Import) (*ImportPlan, error) {
	k, ok := cfg.Options.(LeRobot)
	if !ok {
		if cfg.Kind == mixtureName {
			return nil, errors.New("the job's data is a mixture: import each set that has videos by its path, with model.image_size as --size")
		}
		return nil, fmt.Errorf("data.kind %s has no videos", cfg.Kind)
	}
	path, err := Watch{}.local(context.Background(), job.Abs(baseDir, cfg.Path))
	if err != nil {
		return nil, err
	}
	set, err := lerobot.Open(path)
	if err != nil {
		return nil, err
	}
	cameras, err := k.videoCameras(set, o.Cameras)
	if err != nil {
		return nil, err
	}
	if o.Size == 0 {
		o.Size = k.stored(wants)
	}
	if o.Size < 1 || o.Size > MaxImageSide {
		return nil, fmt.Errorf("frames of %d pixels a side; want 1 to %d", o.Size, MaxImageSide)
	}
	if o.Frames == "" {
		o.Frames = k.folder(set.Dir, baseDir)
	}
	p := &ImportPlan{Path: set.Dir, Dir: o.Frames, Size: o.Size, set: set}
	for _, camera := range cameras {
		clips, err := set.Clips(camera)
		if err != nil {
			return nil, err
		}
		at := map[string]int{} // places in all
		var all []video
		for _, e := range set.Episodes {
			clip, ok := clips[e.Index]
			if !ok {
				return nil, fmt.Errorf("%s: episode %d: its list names no video of %s", set.Dir, e.Index, camera)
			}
			k, ok := at[clip.Path]
			if !ok {
				k = len(all)
				at[clip.Path], all = k, append(all, video{path: clip.Path, camera: camera, clips: clips})
			}
			all[k].episodes, all[k].frames = append(all[k].episodes, e), all[k].frames+e.Length
		}
		h, w := o.Size, o.Size
		if shape := set.Info.Features[camera].Shape; len(shape) == 3 {
			h, w = min(h, shape[0]), min(w, shape[1])
			if shape[2] > 4 { // channels first
				h, w = min(o.Size, shape[1]), min(o.Size, shape[2])
			}
		}
		for _, v := range all {
			p.Videos++
			ready, err := p.ready(v)
			if err != nil {
				return nil, err
			}
			if ready {
				p.Ready++
				continue
			}
			p.Frames, p.Bytes = p.Frames+v.frames, p.Bytes+frames.Size(v.frames, h, w)
			p.todo = append(p.todo, v)
		}
	}
	if len(p.todo) > 0 {
		if p.tool, err = frames.Find(); err != nil {
			return nil, err
		}
		p.FFmpeg = p.tool.Version
	}
	return p, nil
}

// videoCameras are the cameras that are meant and are video: those of want, else of
// the job, else all.
func (k LeRobot) videoCameras(set *lerobot.Set, want []string) (l []string, err error) {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(set.Info.Features)) {
		if f := set.Info.Features[name]; f.Video() && f.Camera() {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no camera is video: there is nothing to import", set.Dir)
	}
	if len(want) == 0 && k.anySize {
		return all, nil
	}
	if len(want) == 0 {
		for _, c := range views(k.Camera, k.Cameras) {
			name, err := chooseCamera(c, set.Info, slices.Sorted(maps.Keys(set.Info.Features)))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Join(set.Dir, lerobot.InfoFile), err)
			}
			if slices.Contains(all, name) {
				l = append(l, name)
			}
		}
		if len(l) == 0 {
			return nil, fmt.Errorf("%s: no camera of the job is video: there is nothing to import", set.Dir)
		}
		return l, nil
	}
	for _, w := range want {
		i := slices.IndexFunc(all, func(name string) bool { return name == w || strings.HasSuffix(name, "."+w) })
		if i < 0 {
			return nil, fmt.Errorf("%s: %q is none of the cameras that are video: %s", set.Dir, w, strings.Join(all, ", "))
		}
		if !slices.Contains(l, all[i]) {
			l = append(l, all[i])
		}
	}
	return l, nil
}

// ready says that a video is in the store as it is now. One that is gone, and was
// imported, is ready too.
func (p *ImportPlan) ready(v video) (bool, error) {
	s, bad := frames.Open(storeFile(p.Dir, p.Size, v.path))
	path := filepath.Join(p.set.Dir, v.path)
	src, err := sourceOf(path)
	if errors.Is(err, fs.ErrNotExist) && bad != nil {
		return false, missingFile{fmt.Sprintf("episode %d: its video of %s is missing: there is no %s", v.episodes[0].Index, v.camera, path)}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return bad == nil && s.Source.Bytes == src.Bytes && s.Source.Sample == src.Sample, nil
}

// sourceOf recognises a video by its length and a sample of its content.
func sourceOf(path string) (s frames.Source, err error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	s.Bytes = size
	s.Sample, err = sampled(f, size)
	return s, err
}

// Run decodes what the plan names, several videos at once, on so many threads.
// progress is told of frames; fault of what is wrong with a video: it goes on with the
// others; note of what ffmpeg complained of in a video that is in the store all the
// same. One of them is called at a time. A video is in the store whole, or is not; so
// an import that was stopped or killed goes on where it was.
func (p *ImportPlan) Run(ctx context.Context, threads int, progress func(Progress), fault, note func(error)) error {
	if err := p.sweep(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // of done, and of who is told
	done := int64(0)
	told := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		done += int64(n)
		progress(Progress{Path: p.set.Dir, Done: done, Total: int64(p.Frames), Unit: "frames"})
	}
	next := make(chan video)
	each := min(max(threads, 1), 2) // threads of one decoder: more of them wait for each other
	var wg sync.WaitGroup
	for range max(threads/each, 1) {
		wg.Go(func() {
			for v := range next {
				faults, notes, err := p.one(ctx, v, each, told)
				mu.Lock()
				for _, f := range faults {
					fault(f)
				}
				for _, n := range notes {
					note(n)
				}
				mu.Unlock()
				if err != nil {
					cancel(err) // the disk, or the end that was asked for
				}
			}
		})
	}
	for _, v := range p.todo {
		if ctx.Err() != nil {
			break
		}
		next <- v
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// sweep removes what an import that was killed has left. Whoever calls holds the
// store, so nobody writes there now.
func (p *ImportPlan) sweep() error {
	root := filepath.Join(p.Dir, strconv.Itoa(p.Size))
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasPrefix(d.Name(), ".") && strings.Contains(d.Name(), framesExt+"-") {
			return os.Remove(path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// one decodes a video into its store file. Faults are of the video; the error, of
// the disk or the end that was asked for, ends the import.
func (p *ImportPlan) one(ctx context.Context, v video, threads int, told func(frames int)) (faults, notes []error, err error) {
	in, out := filepath.Join(p.set.Dir, v.path), storeFile(p.Dir, p.Size, v.path)
	named := func(err error) error {
		return fmt.Errorf("%s (%s, episode %d): %w", in, v.camera, v.episodes[0].Index, err)
	}
	src, err := sourceOf(in)
	if err != nil {
		return []error{err}, nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return nil, nil, err
	}
	spoilt := errors.New("spoilt") // by the video
	err = atomicfile.WriteFrom(out, 0o644, func(file io.Writer) error {
		disk := &diskWriter{w: file}
		var w *frames.Writer
		var small []byte
		var s shrinker
		warn, err := p.tool.Decode(ctx, in, threads, func(f frames.Frame) error {
			h, wid := min(f.H, p.Size), min(f.W, p.Size)
			if w == nil {
				src.H, src.W = f.H, f.W
				w = frames.NewWriter(disk, h, wid)
			}
			small = s.shrink(small, f.RGB, f.H, f.W, h, wid)
			told(1)
			return w.Add(f.Seconds, small)
		})
		for _, line := range warn {
			notes = append(notes, named(fmt.Errorf("ffmpeg says: %s", line)))
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case disk.err != nil:
			return disk.err
		case err == nil && w == nil:
			err = errors.New("it has no frames")
		}
		if err != nil {
			faults = append(faults, named(err))
			return spoilt
		}
		return w.Close(src)
	})
	if err != nil {
		if err == spoilt {
			err = nil
		}
		return faults, nil, err
	}
	s, err := frames.Open(out)
	if err != nil {
		return nil, nil, err
	}
	return p.gaps(s, v), notes, nil
}

// diskWriter remembers that writing failed.
type diskWriter struct {
	w   io.Writer
	err error
}

func (d *diskWriter) Write(b []byte) (int, error) {
	n, err := d.w.Write(b)
	d.err = err
	return n, err
}

// gaps are the episodes of which a video lacks frames, by the numbers of the tables:
// the first frame of each.
func (p *ImportPlan) gaps(s *frames.Store, v video) (faults []error) {
	for _, e := range v.episodes {
		for k := range e.Length {
			if _, err := frameFor(s, v.clips[e.Index].From+float64(k)/p.set.Info.FPS, p.set.Info.FPS); err != nil {
				faults = append(faults, fmt.Errorf("%s: episode %d, frame %d: %s: %w", p.set.Dir, e.Index, k, v.path, err))
				break
			}
		}
	}
	return faults
}
