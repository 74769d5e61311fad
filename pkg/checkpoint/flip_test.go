package checkpoint

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"
)

// Every bit of every byte of every file is flipped, and every file is cut at
// every length and lengthened: Verify names the file each time, and LatestGood
// takes the checkpoint before. The file latest misleads nobody and is named too.
func TestEveryFlip(t *testing.T) {
	s := newSimFS()
	d, err := openDisk(s, simDirName)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []uint64{1, 2} {
		if err := stateOf(step, 0).write(d); err != nil {
			t.Fatal(err)
		}
	}
	dir := path.Join(simDirName, DirName(2))
	flips := 0
	for _, name := range []string{ModelFile, OptimizerFile, ManifestFile} {
		h, err := s.Open(path.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f := h.(*simHandle).f
		whole := slices.Clone(f.now)
		try := func(what string, at int, b []byte) {
			flips++
			f.now = b
			r := verify(s, dir)
			if r.OK || !errors.Is(r.Err(), ErrCorrupt) || !strings.Contains(r.Err().Error(), name+": ") {
				t.Fatalf("%s: %s %d: Verify says %+v", name, what, at, r)
			}
			if at%16 == 0 { // the whole way round is slower
				found, err := latestGood(s, simDirName)
				if err != nil || found.Manifest.Step != 1 || len(found.Passed) != 1 || found.Passed[0].Dir != dir || !strings.Contains(found.Passed[0].Reason, name) {
					t.Fatalf("%s: %s %d: LatestGood gives %+v, %v", name, what, at, found, err)
				}
			}
		}
		for i := range whole {
			for bit := range 8 {
				b := slices.Clone(whole)
				b[i] ^= 1 << bit
				try("bit of byte", i, b)
			}
			try("cut at", i, whole[:i])
		}
		try("lengthened", len(whole), append(slices.Clone(whole), 0))
		try("lengthened by a line", len(whole), append(slices.Clone(whole), '\n'))
		f.now = whole
	}
	if r := verify(s, dir); !r.OK {
		t.Fatalf("put back, it does not verify: %v", r.Err())
	}

	h, err := s.Open(path.Join(simDirName, latestFile))
	if err != nil {
		t.Fatal(err)
	}
	f := h.(*simHandle).f
	whole := slices.Clone(f.now)
	for i := range whole {
		for bit := range 8 {
			flips++
			f.now = slices.Clone(whole)
			f.now[i] ^= 1 << bit
			found, err := latestGood(s, simDirName)
			if err != nil || found.Manifest.Step != 2 || len(found.Passed) != 1 || path.Base(found.Passed[0].Dir) != latestFile {
				t.Fatalf("latest %q: LatestGood gives %+v, %v", f.now, found, err)
			}
		}
		f.now = whole[:i]
		if found, err := latestGood(s, simDirName); err != nil || found.Manifest.Step != 2 || len(found.Passed) != 1 {
			t.Fatalf("latest %q: LatestGood gives %+v, %v", f.now, found, err)
		}
	}
	t.Logf("%d damages", flips)
}

// A manifest of a later version is refused with a word on what to do.
func TestManifestVersions(t *testing.T) {
	m, err := Manifest{Step: 1}.seal(1, []FileInfo{{"a", 0, strings.Repeat("0", 64)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(m *Manifest)
		want   string
	}{
		{func(m *Manifest) {}, ""},
		{func(m *Manifest) { m.Version = 2 }, "format version is 2, and this program reads up to 1"},
		{func(m *Manifest) { m.Version = 0 }, "format version is 0"},
		{func(m *Manifest) { m.Format = "x" }, `format is "x"`},
		{func(m *Manifest) { m.Files = append(m.Files, m.Files[0]) }, "a is listed twice"},
		{func(m *Manifest) { m.Files = []FileInfo{{"../a", 0, strings.Repeat("0", 64)}} }, `"../a" cannot be the name`},
		{func(m *Manifest) { m.Files = []FileInfo{{"a", 0, strings.Repeat("Z", 64)}} }, "no proper size and SHA-256"},
	} {
		x := m
		c.change(&x)
		b, err := x.encode()
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeManifest(b)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func FuzzManifest(f *testing.F) {
	m, err := Manifest{Step: 1, Config: Text("name: x\n")}.seal(1, []FileInfo{{"a", 0, strings.Repeat("0", 64)}})
	if err != nil {
		f.Fatal(err)
	}
	b, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeManifest(b); err == nil && m.checkFiles() != nil {
			t.Fatalf("accepted %q", b)
		}
	})
}
