package sniff

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"
	"unicode/utf16"
)

// Real writers where Go has one, else the bytes that the real ones begin with.
func samples(t *testing.T) map[Kind][][]byte {
	buf := func(write func(b *bytes.Buffer) error) []byte {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	zipped := func(name string) []byte {
		return buf(func(b *bytes.Buffer) error {
			z := zip.NewWriter(b)
			w, err := z.Create(name)
			if err != nil {
				return err
			}
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return err
			}
			return z.Close()
		})
	}
	img := image.NewRGBA(image.Rect(0, 0, 4, 4))
	wide := func(o binary.AppendByteOrder, s string) (b []byte) {
		for _, u := range utf16.Encode([]rune(s)) {
			b = o.AppendUint16(b, u)
		}
		return b
	}
	header := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	return map[Kind][][]byte{
		Empty:      {nil},
		Zeros:      {make([]byte, 16), make([]byte, 4096)},
		GitLFS:     {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")},
		GitAnnex:   {[]byte("/annex/objects/SHA256E-s12--abc.png\n")},
		LinkText:   {[]byte("../../blobs/aa")},
		HTML:       {[]byte("<!DOCTYPE html>\n<html><body>Sign in</body></html>"), []byte("\n\n  <HTML><HEAD>"), []byte("<!-- x --><html>")},
		XML:        {[]byte(`<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>`), []byte("<Error><Code>NoSuchKey</Code></Error>")},
		JSON:       {[]byte(`{"image": "a.png"}`), []byte("[1, 2]")},
		ShardIndex: {[]byte("{\n  \"metadata\": {\n    \"total_size\": 12\n  },\n  \"weight_map\": {\n    \"a\": \"model-00001-of-00002.safetensors\"\n  }\n}")},
		PlainText:  {[]byte("Entry not found"), []byte("Zugriff verweigert – später\n"), []byte("PSA: hello"), []byte("../x is a link"), []byte("GIF"), append(bytes.Repeat([]byte("a"), HeadSize-1), "é"...)},
		UTF16: {wide(binary.LittleEndian, "\ufeff{\"image\": 1}"), wide(binary.BigEndian, "\ufeff{\"image\": 1}"),
			wide(binary.LittleEndian, `{"image": "a.png"}`), wide(binary.BigEndian, `{"image": "a.png"}`)},
		UTF32:    {[]byte("\xff\xfe\x00\x00{\x00\x00\x00")},
		BOM:      {[]byte("\ufeff{\"image\": 1}")},
		Gzip:     {buf(func(b *bytes.Buffer) error { z := gzip.NewWriter(b); z.Write([]byte("hello")); return z.Close() })},
		Bzip2:    {[]byte("BZh91AY&SY")},
		XZ:       {[]byte("\xfd7zXZ\x00\x00\x04")},
		Zstd:     {[]byte("\x28\xb5\x2f\xfd\x04\x00")},
		SevenZip: {[]byte("7z\xbc\xaf\x27\x1c\x00\x04")},
		Zip:      {zipped("model.safetensors"), []byte("PK\x05\x06" + strings.Repeat("\x00", 18))},
		TorchZip: {zipped("archive/data.pkl"), zipped("model/version")},
		NumPyZip: {zipped("images.npy")},
		Tar: {buf(func(b *bytes.Buffer) error {
			w := tar.NewWriter(b)
			if err := w.WriteHeader(&tar.Header{Name: "a/b.png", Size: 0, Mode: 0o600}); err != nil {
				return err
			}
			return w.Close()
		})},
		// torch.save(…, _use_new_zipfile_serialization=False); pickle.dump of a dict by protocols 2, 4 and 5.
		Pickle:      {[]byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."), []byte("\x80\x02}q\x00."), []byte("\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94."), []byte("\x80\x05}\x94."), []byte("\x80\x02ccollections\nOrderedDict\n")},
		NumPy:       {[]byte("\x93NUMPY\x01\x00v\x00{'descr': '<f4'")},
		HDF5:        {[]byte("\x89HDF\r\n\x1a\n\x00")},
		Parquet:     {[]byte("PAR1\x15\x04")},
		Arrow:       {[]byte("ARROW1\x00\x00\xff\xff")},
		GGUF:        {[]byte("GGUF\x03\x00\x00\x00")},
		Safetensors: {append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+"\x00\x00\x00\x00"...)},
		// Length 120 and its masked CRC-32C, from tensorflow.io.TFRecordWriter's own layout.
		TFRecord: {record(120), record(0x72657676)},
		PNG:      {buf(func(b *bytes.Buffer) error { return png.Encode(b, img) })},
		JPEG:     {buf(func(b *bytes.Buffer) error { return jpeg.Encode(b, img, nil) })},
		GIF:      {buf(func(b *bytes.Buffer) error { return gif.Encode(b, img, nil) })},
		WebP:     {[]byte("RIFF\x24\x00\x00\x00WEBPVP8L"), []byte("RIFF\x24\x00\x00\x00WEBPVP8 "), []byte("RIFF\x24\x00\x00\x00WEBPVP8X")},
		BMP:      {[]byte("BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\x02\x00")},
		TIFF:     {[]byte("II*\x00\x08\x00\x00\x00"), []byte("MM\x00*\x00\x00\x00\x08")},
		HEIF:     {[]byte("\x00\x00\x00\x18ftypheic\x00\x00"), []byte("\x00\x00\x00\x18ftypmif1\x00\x00")},
		AVIF:     {[]byte("\x00\x00\x00\x1cftypavif\x00\x00")},
		JPEG2000: {[]byte("\x00\x00\x00\x0cjP  \r\n\x87\n")},
		JPEGXL:   {[]byte("\x00\x00\x00\x0cJXL \r\n\x87\n"), []byte("\xff\x0a\xfa\x1f")},
		PNM:      {[]byte("P6\n4 4\n255\n\x00\x01"), []byte("P5 4 4 255 \x00")},
		Video:    {[]byte("\x00\x00\x00\x20ftypisom\x00\x00"), []byte("\x1aE\xdf\xa3\x01\x00"), []byte("RIFF\x24\x00\x00\x00AVI LIST")},
		PDF:      {[]byte("%PDF-1.7\n")},
		Mangled:  {[]byte("\x89PNG\n\x1a\n\x00\x00\x00\rIHDR"), []byte("\x89PNG\r\r\n\x1a\r\n\x00\x00"), []byte("\xef\xbf\xbdPNG\r\n\x1a\n")},
		Unknown:  {[]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"), []byte("\x00\x00\x00"), []byte("\x80\x09x"), []byte("ab\x00cd")},
	}
}

// record is the head of a TFRecord whose data has n bytes. The checksum is
// computed bit by bit: another way than the package's.
func record(n uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, n)
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		for range 8 {
			c = c>>1 ^ 0x82f63b78&-(c&1)
		}
	}
	c = ^c
	return binary.LittleEndian.AppendUint32(b, (c>>15|c<<17)+0xa282ead8)
}

func TestOf(t *testing.T) {
	all := samples(t)
	for k := Unknown; k <= Mangled; k++ {
		if len(all[k]) == 0 {
			t.Errorf("no sample of %v", k)
		}
		for i, b := range all[k] {
			if got := Of(b); got != k {
				t.Errorf("sample %d of %v is %v", i, k, got)
			}
			if got := At(bytes.NewReader(b), int64(len(b))); got != k {
				t.Errorf("sample %d of %v by At: %v", i, k, got)
			}
		}
		if k != Unknown && strings.Contains(k.String(), "unknown") {
			t.Errorf("kind %d has no name", k)
		}
	}
}

// A head that is cut anywhere may be told less, and must not be told wrong in
// a way that panics.
func TestOfCutHeads(t *testing.T) {
	for _, list := range samples(t) {
		for _, b := range list {
			for n := range min(len(b), 300) {
				Of(b[:n])
				Instead(b[:n], Tensors)
			}
		}
	}
}

func TestInstead(t *testing.T) {
	all := samples(t)
	for _, c := range []struct {
		kind Kind
		want Want
		says string
	}{
		{GitLFS, Tensors, `it is a Git LFS pointer, not the file itself: run "git lfs pull" in its repository to fetch the file`},
		{GitLFS, Picture, `it is a Git LFS pointer, not the file itself: run "git lfs pull" in its repository to fetch the file`},
		{Gzip, Records, "it is a gzip file: unpack it with gunzip"},
		{PlainText, Tensors, `it is plain text that begins with "Entry not found"`},
		{JSON, Records, `it is JSON text that begins with "{\"image\": \"a.png\"}": a TFRecord file of TFDS is wanted here; get or write the data set in that form`},
		{UTF16, Text, "it is text in UTF-16: save it as UTF-8 without a byte order mark"},
		{PNG, Tensors, "it is a PNG picture"},
		{Mangled, Picture, "it is a PNG whose first bytes were changed: a copy changed its line ends (FTP in text mode, git's autocrlf); copy or download it again as binary"},
		{NumPy, Picture, `it is a NumPy .npy file: save its pictures as PNG, for example with Pillow: Image.fromarray(array).save("new.png")`},
		{Parquet, Text, "it is a Parquet file: text is wanted here: write what it holds as JSON in UTF-8"},
		{WebP, Picture, `it is a WebP picture: save it as PNG or JPEG, for example with Pillow: Image.open(old).convert("RGB").save("new.png")`},
		{PNG, Picture, ""}, {JPEG, Picture, ""}, {Safetensors, Tensors, ""}, {TFRecord, Records, ""}, {JSON, Text, ""}, {PlainText, Text, ""}, {Unknown, Tensors, ""},
	} {
		if got := Instead(all[c.kind][0], c.want); got != c.says {
			t.Errorf("%v for %v:\n got %q\nwant %q", c.kind, c.want, got, c.says)
		}
	}
	for k, list := range all {
		for _, w := range []Want{Tensors, Picture, Records, Text} {
			if s := Instead(list[0], w); len(s) > 320 {
				t.Errorf("%v for %v takes %d bytes", k, w, len(s))
			}
		}
	}
	for _, k := range []Kind{TorchZip, Pickle} {
		if s := Instead(all[k][0], Tensors); !strings.Contains(s, "safetensors.torch.save_file") {
			t.Errorf("%v: %s", k, s)
		}
	}
}
