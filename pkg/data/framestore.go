package data

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/data/internal/frames"
	"github.com/vlaring/vlaring/pkg/data/internal/lerobot"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Pictures that are frames of videos come from a frame store, which Import has
// made: one file of pixels for each video, below a folder for each size.
//
//	DATASET/.vlaring/frames/64/videos/observation.images.front/chunk-000/file-000.mp4.frames
//
// Opening data never decodes a video. It is done by workers, checks, evaluations and
// whoever resumes, on machines that may have no ffmpeg, no right to write and no room;
// one command does it once, and all of them read the same bytes.

// framesFolder is where a data set's frame store is, unless the job says otherwise.
const framesFolder = ".vlaring/frames"

// framesExt ends the names of store files.
const framesExt = ".frames"

// frameSlack is by how many seconds a frame may be shown before or after the time
// that the table says: LeRobot's own.
const frameSlack = 1e-4

// storeFile is the store file of a video, for pictures of a size.
func storeFile(root string, size int, video string) string {
	return filepath.Join(root, strconv.Itoa(size), video+framesExt)
}

// storedSizes are the sizes that a store has, ascending.
func storedSizes(root string) (l []int) {
	entries, _ := os.ReadDir(root)
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() && n > 0 {
			l = append(l, n)
		}
	}
	slices.Sort(l)
	return l
}

// VideoKeys are the keys of pictures that are frames of videos.
type VideoKeys struct {
	Frames    string `yaml:"frames,omitempty"`     // folder of the frame store; empty: framesFolder of the data set
	FrameSize int    `yaml:"frame_size,omitempty"` // which of its frames are read, by their longest side; 0: the model's image size

	anySize bool // no model sets their size: the largest that there are
}

func (k VideoKeys) check(c *job.Checker) { c.Within("data.frame_size", k.FrameSize, 0, MaxImageSide) }

// stored is the size of the frames that are read.
func (k VideoKeys) stored(wants models.Spec) int {
	n := k.FrameSize
	for _, f := range wants.Of(models.Image) {
		if k.FrameSize == 0 {
			n = max(n, f.Shape[1], f.Shape[2])
		}
	}
	return n
}

// folder is that of the frame store of the data set in dir.
func (k VideoKeys) folder(dir, base string) string {
	if k.Frames == "" {
		return filepath.Join(dir, filepath.FromSlash(framesFolder))
	}
	return job.Abs(base, k.Frames)
}

// open opens the frames of the episodes that a camera has. Frames that have not been
// imported end the opening, whatever it may go on over.
func (k VideoKeys) open(o *Opening, set *lerobot.Set, camera string, episodes []lerobot.Episode) (*videoFrames, error) {
	clips, err := set.Clips(camera)
	if err != nil {
		return nil, err
	}
	v := &videoFrames{set: set, camera: camera, root: k.folder(set.Dir, o.base), size: k.stored(o.Wants), clips: clips, of: map[string]int{}}
	if k.anySize {
		v.size = 0
		if l := storedSizes(v.root); len(l) > 0 {
			v.size = l[len(l)-1]
		}
	}
	for i, e := range episodes {
		if err := o.tick(int64(i), int64(len(episodes)), "episodes"); err != nil {
			return nil, err
		}
		clip, ok := clips[e.Index]
		if _, seen := v.of[clip.Path]; seen {
			continue
		}
		if !ok {
			err = errors.New("the list of episodes names no video of it")
		} else {
			err = v.add(clip.Path, o.lenient())
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, v.missing()
		}
		if err != nil {
			err = fmt.Errorf("%s: episode %d, camera %s: %w", set.Dir, e.Index, camera, err)
			if err = o.pass(Fault{Kind: "file", File: filepath.Join(set.Dir, clip.Path), Episode: ptr(e.Index)}, err); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// videoFrames are the pictures of one camera, frames of videos.
type videoFrames struct {
	set    *lerobot.Set
	camera string
	root   string // of the store
	size   int
	clips  map[int64]lerobot.Clip
	stores []*frames.Store // in order of appearance
	of     map[string]int  // place among stores, by video
	at     []shown         // of each sample
	files  frames.Files
}

// shown is where a sample's picture is.
type shown struct {
	store, frame int32
	err          error // why there is none
}

// add opens the store file of a video. whole has a look into the video, too.
func (v *videoFrames) add(video string, whole bool) error {
	v.of[video] = -1 // which it stays where that fails
	s, err := frames.Open(storeFile(v.root, v.size, video))
	if err != nil {
		return err
	}
	path := filepath.Join(v.set.Dir, video)
	if info, err := os.Stat(path); err == nil && info.Size() != s.Source.Bytes {
		return fmt.Errorf("%s has %d bytes, and had %d when its frames were imported: import them again, or bring it back", path, info.Size(), s.Source.Bytes)
	}
	if src, err := sourceOf(path); whole && err == nil && src.Sample != s.Source.Sample {
		return fmt.Errorf("%s has another content than when its frames were imported: import them again, or bring it back", path)
	}
	if f := v.set.Info.Features[v.camera]; !f.Sized(s.Source.H, s.Source.W) {
		return fmt.Errorf("%s has frames of %d×%d pixels (width × height), %s says that they are %v", path, s.Source.W, s.Source.H, lerobot.InfoFile, f.Shape)
	}
	v.of[video], v.stores = len(v.stores), append(v.stores, s)
	return nil
}

// has says whether there are frames of an episode.
func (v *videoFrames) has(episode int64) bool {
	clip, ok := v.clips[episode]
	return ok && v.of[clip.Path] >= 0
}

// place gives the next sample its picture: the frame of an episode, which it has, at
// a time of the episode's own.
func (v *videoFrames) place(episode int64, seconds float64) error {
	clip := v.clips[episode]
	a := shown{store: int32(v.of[clip.Path])}
	k, err := frameFor(v.stores[a.store], clip.From+seconds, v.set.Info.FPS)
	if a.frame = int32(k); err != nil {
		a.err = fmt.Errorf("%s: %w", filepath.Join(v.set.Dir, clip.Path), err)
	}
	v.at = append(v.at, a)
	return a.err
}

// frameFor is the frame that a video shows at a time.
func frameFor(s *frames.Store, t, fps float64) (int, error) {
	k, off := s.Nearest(t)
	slack := frameSlack + float64(max(t, 0)/(1<<23)) // tables have times as float32
	if off >= -slack && off <= slack {
		return k, nil
	}
	if last := len(s.Times) - 1; k == last && off > 0 {
		return 0, fmt.Errorf("the video is shorter than its table: it ends with frame %d at %.4f s, and the table has a frame at %.4f s", last, s.Times[last], t)
	}
	rate := ""
	if n := len(s.Times) - 1; n > 0 && s.Times[n] > s.Times[0] {
		rate = fmt.Sprintf("; the video has %.4g frames a second, %s says %.4g", float64(n)/(s.Times[n]-s.Times[0]), lerobot.InfoFile, fps)
	}
	return 0, fmt.Errorf("no frame is shown at %.4f s: the nearest is frame %d at %.4f s, and %v s are allowed%s", t, k, s.Times[k], frameSlack, rate)
}

// missing says what to type.
func (v *videoFrames) missing() error {
	if v.size == 0 {
		return missingFile{fmt.Sprintf("camera %s is video, and its frames have not been imported: coordinator data import %s", v.camera, plain.ShellWord(v.set.Dir))}
	}
	command := fmt.Sprintf("coordinator data import %s --size %d", plain.ShellWord(v.set.Dir), v.size)
	if v.root != filepath.Join(v.set.Dir, filepath.FromSlash(framesFolder)) {
		command += " --frames " + plain.ShellWord(v.root)
	}
	for _, size := range storedSizes(v.root) {
		if size != v.size {
			command += fmt.Sprintf("; there are frames of %d there, which data.frame_size: %d takes", size, size)
			break
		}
	}
	return missingFile{fmt.Sprintf("camera %s is video, and the frames of its videos are not (all) in %s: %s", v.camera, filepath.Join(v.root, strconv.Itoa(v.size)), command)}
}

// print adds the pixels of all that was opened to a fingerprint.
func (v *videoFrames) print(fp Fingerprint) {
	for _, s := range v.stores {
		fp.Add("frames", fmt.Sprintf("%x", s.Content))
	}
}

// image is the picture of sample i.
func (v *videoFrames) image(i int) (Image, error) {
	a := v.at[i]
	if a.err != nil {
		return Image{}, &ImageError{a.err}
	}
	s := v.stores[a.store]
	b, err := v.files.Frame(s, int(a.frame))
	if err != nil {
		return Image{}, &ImageError{err}
	}
	return Image{RGB: b, H: s.H, W: s.W}, nil
}

// sums are the CRC-32C of the pictures of all samples.
func (v *videoFrames) sums() []uint32 {
	l := make([]uint32, len(v.at))
	for i, a := range v.at {
		if a.err == nil {
			l[i] = v.stores[a.store].Sums[a.frame]
		}
	}
	return l
}
