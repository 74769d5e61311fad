package data

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/vlaring/vlaring/internal/sniff"
)

// folderRoot opens the files that a manifest names. Names stay inside the
// folder, by themselves and through links, with one exception: a folder in a
// Hugging Face cache consists of links to the blobs beside it,
//
//	datasets--org--name/snapshots/REVISION/…  ->  datasets--org--name/blobs/HASH
//
// and those are followed.
type folderRoot struct {
	dir      string // without links
	root     *os.Root
	blobsDir string
	blobs    *os.Root // nil outside a cache
}

func openFolderRoot(dir string) (*folderRoot, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	r := &folderRoot{dir: real}
	if r.root, err = os.OpenRoot(real); err != nil {
		return nil, err
	}
	for d := real; filepath.Dir(d) != d; d = filepath.Dir(d) {
		blobs := filepath.Join(filepath.Dir(d), "blobs")
		if info, err := os.Stat(blobs); filepath.Base(d) != "snapshots" || err != nil || !info.IsDir() {
			continue
		}
		if r.blobs, err = os.OpenRoot(blobs); err != nil {
			r.Close()
			return nil, err
		}
		r.blobsDir = blobs
		break
	}
	return r, nil
}

func (r *folderRoot) Close() error {
	if r.blobs != nil {
		r.blobs.Close()
	}
	return r.root.Close()
}

// missingFile is an error about a file that is not there.
type missingFile struct{ text string }

func (e missingFile) Error() string { return e.text }
func (e missingFile) Unwrap() error { return fs.ErrNotExist }

// namedFile is where a name leads: a path inside one of the two roots.
type namedFile struct {
	root *os.Root
	name string
}

// find follows a name of the manifest to a file. A name in one of Unicode's
// forms finds a file that is stored in the other, as copies from a Mac are.
func (r *folderRoot) find(name string) (namedFile, error) {
	switch {
	case name == "":
		return namedFile{}, errors.New("the name is empty; name a picture, or leave the line out")
	case strings.HasPrefix(name, "http://"), strings.HasPrefix(name, "https://"):
		return namedFile{}, errors.New("it is an address; download the picture into the folder and write its path there")
	case !filepath.IsLocal(name):
		return namedFile{}, errors.New("the path leads outside the folder; it must be relative and stay inside")
	}
	for _, form := range []string{name, norm.NFC.String(name), norm.NFD.String(name)} {
		_, err := r.root.Stat(form)
		switch {
		case err == nil:
			return namedFile{r.root, form}, nil
		case !errors.Is(err, fs.ErrNotExist):
			return r.follow(form, err)
		}
		if link, err := r.root.Lstat(form); err == nil && link.Mode()&fs.ModeSymlink != 0 {
			return r.follow(form, fs.ErrNotExist)
		}
	}
	return namedFile{}, r.missing(name)
}

// follow finds where a link leads that the root does not follow, for the
// reason err.
func (r *folderRoot) follow(name string, err error) (namedFile, error) {
	full := filepath.Join(r.dir, name)
	target, e := filepath.EvalSymlinks(full)
	if errors.Is(e, fs.ErrNotExist) {
		if t, e := os.Readlink(full); e == nil {
			target = t
		}
		return namedFile{}, missingFile{fmt.Sprintf("it is a link to %q, which is not there: the copy or cache is incomplete; download it again, or copy it with its links followed (cp -rL)", target)}
	}
	if e != nil {
		return namedFile{}, err
	}
	for root, dir := range map[*os.Root]string{r.root: r.dir, r.blobs: r.blobsDir} {
		rel, e := filepath.Rel(dir, target)
		if root == nil || e != nil || !filepath.IsLocal(rel) {
			continue
		}
		return namedFile{root, rel}, nil
	}
	return namedFile{}, fmt.Errorf("it is a link to %q, outside the data folder %s, and links are followed inside it alone (and to the blobs of a Hugging Face cache); copy the folder with its links followed (cp -rL) and set data.path to the copy", target, r.dir)
}

// missing says that a name leads nowhere, and what it may have meant.
func (r *folderRoot) missing(name string) error {
	if slashed := strings.ReplaceAll(name, `\`, "/"); slashed != name {
		return missingFile{fmt.Sprintf("there is no such file; / stands between folder and file, not \\: write %q", slashed)}
	}
	if near := r.folded(name); near != "" {
		return missingFile{fmt.Sprintf("there is no such file, but there is %q; capitals and small letters differ: write that", near)}
	}
	forms := ""
	if c, d := norm.NFC.String(name), norm.NFD.String(name); c != d {
		forms = fmt.Sprintf(", neither as %+q (NFC) nor as %+q (NFD)", c, d)
	}
	return missingFile{fmt.Sprintf("there is no such file in %s%s", r.dir, forms)}
}

// folded is the path of a file whose name is equal but for the case of letters,
// empty where there is none.
func (r *folderRoot) folded(name string) string {
	at := "."
	for _, part := range strings.Split(path.Clean(filepath.ToSlash(name)), "/") {
		entries, err := fs.ReadDir(r.root.FS(), at)
		if err != nil {
			return ""
		}
		found := ""
		for _, e := range entries {
			if strings.EqualFold(norm.NFC.String(e.Name()), norm.NFC.String(part)) && (found == "" || e.Name() == part) {
				found = e.Name()
			}
		}
		if found == "" {
			return ""
		}
		at = path.Join(at, found)
	}
	return at
}

// read returns the bytes of the regular file of bounded size that name leads to.
func (r *folderRoot) read(name string) ([]byte, error) {
	p, err := r.find(name)
	if err != nil {
		return nil, err
	}
	f, err := p.open(maxImageFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxImageFile))
}

// open opens a regular file of at most so many bytes. Others, which may never
// end or never begin, are not opened.
func (p namedFile) open(most int64) (*os.File, error) {
	info, err := p.root.Stat(p.name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("it is a folder; name a file in it")
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("not a regular file of at most %d bytes", most)
	}
	return p.root.Open(p.name)
}

// manifest opens the list of samples.
func (r *folderRoot) manifest() (*os.File, error) {
	p, err := r.find(ManifestName)
	if err != nil {
		return nil, err
	}
	return p.open(math.MaxInt64)
}

// insteadOfText says what a file is that should hold lines of text; empty
// where it is text.
func insteadOfText(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	return sniff.Instead(bytes.TrimPrefix(sniff.Head(f, info.Size()), []byte("\ufeff")), sniff.Text)
}

// emptyFile ends a message about a file without samples where it has no bytes.
func emptyFile(f *os.File) string {
	if info, err := f.Stat(); err == nil && info.Size() == 0 {
		return ": " + insteadOfText(f)
	}
	return ""
}
