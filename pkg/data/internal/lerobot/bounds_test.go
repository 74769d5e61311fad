package lerobot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// row is one of the tables that are bombed.
type row struct {
	Index int64   `parquet:"index"`
	Text  string  `parquet:"text,dict"`
	Value float64 `parquet:"value"`
}

// written is a table of n rows, packed by codec.
func written(t *testing.T, codec compress.Codec, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b, parquet.Compression(codec))
	for i := range n {
		if _, err := w.Write([]row{{int64(i), strings.Repeat("push ", 1+i%3), float64(i) / 3}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// opened reads all columns of a table, and counts the bytes that the program took for it.
func opened(t *testing.T, file []byte) (took uint64, err error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "t.parquet"), file, 0o644); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	tab, err := (&Set{Dir: dir}).Table("t.parquet")
	if err == nil {
		defer tab.Close()
		_, err1 := tab.Ints("index")
		_, err2 := tab.Strings("text")
		_, err3 := tab.Doubles("value")
		_, _, err4 := tab.Picture("text", 1)
		err = errors.Join(err1, err2, err3, err4)
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

// repack writes a table's file anew: its first column has one page, of this header and body,
// and the footer is as change leaves it.
func repack(t *testing.T, file []byte, h *format.PageHeader, body []byte, change func(m *format.FileMetaData)) []byte {
	t.Helper()
	n := int(binary.LittleEndian.Uint32(file[len(file)-8:]))
	var m format.FileMetaData
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), file[len(file)-8-n:len(file)-8], &m); err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(file[:len(file)-8-n])
	if h != nil {
		head, err := thrift.Marshal(new(thrift.CompactProtocol), h)
		if err != nil {
			t.Fatal(err)
		}
		c := &m.RowGroups[0].Columns[0].MetaData
		c.DataPageOffset, c.DictionaryPageOffset = int64(len(out)), 0
		c.TotalCompressedSize = int64(len(head) + len(body))
		out = append(append(out, head...), body...)
	}
	change(&m)
	foot, err := thrift.Marshal(new(thrift.CompactProtocol), &m)
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, foot...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(foot))), "PAR1"...)
}

// A few bytes that claim to stand for gigabytes are refused by what they claim, before
// memory is taken for them: lists of the footer and of a page, sizes and values of pages,
// what a page really unpacks to by each way of packing, and equal rows without end.
func TestParquetBombs(t *testing.T) {
	const rows = 100
	plain := written(t, &parquet.Uncompressed, rows)
	for name, codec := range map[string]compress.Codec{"none": &parquet.Uncompressed, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip, "zstd": &parquet.Zstd, "brotli": &parquet.Brotli, "lz4": &parquet.Lz4Raw} {
		if _, err := opened(t, written(t, codec, rows)); err != nil {
			t.Errorf("a sound table, packed by %s: %v", name, err)
		}
	}

	footer := func(b []byte) []byte {
		out := append([]byte("PAR1"), b...)
		return append(binary.LittleEndian.AppendUint32(out, uint32(len(b))), "PAR1"...)
	}
	zeros := make([]byte, 64<<20)
	page := func(packed, full, values int) *format.PageHeader {
		return &format.PageHeader{Type: format.DataPage, UncompressedPageSize: int32(full), CompressedPageSize: int32(packed),
			DataPageHeader: thrift.Null[format.DataPageHeader]{Valid: true, V: format.DataPageHeader{NumValues: int32(values), Encoding: format.Plain, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE}}}
	}
	packed := func(codec compress.Codec, n int) []byte {
		b, err := codec.Encode(nil, zeros[:n])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	as := func(codec format.CompressionCodec) func(m *format.FileMetaData) {
		return func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.Codec = codec }
	}
	nothing := func(*format.FileMetaData) {}
	bomb := func(codec compress.Codec) []byte { // claims the 800 bytes of 100 numbers, and unpacks to 64 MiB
		b := packed(codec, len(zeros))
		return repack(t, plain, page(len(b), 8*rows, rows), b, as(codec.(interface {
			CompressionCodec() format.CompressionCodec
		}).CompressionCodec()))
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"a schema of 2^31 columns":      {footer([]byte{0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 7}), "longer than all that there is"},
		"a name of 2^31 letters":        {footer([]byte{0x15, 2, 0x19, 0x1c, 0x48, 0xff, 0xff, 0xff, 0xff, 7}), "longer than all that there is"},
		"structures without end":        {footer(bytes.Repeat([]byte{0x1c}, 1000)), "nested deeper"},
		"a footer larger than the file": {append(append([]byte("PAR1"), 0xff, 0xff, 0xff, 0x7f), "PAR1"...), "its footer is said to have"},
		"an encrypted one":              {append(append([]byte("PAR1"), 0, 0, 0, 0), "PARE"...), "it is encrypted"},
		"a page of 2 GiB":               {repack(t, plain, page(1<<31-1, 1<<31-1, rows), nil, nothing), "where 0 are left"},
		"a page that unpacks to 2 GiB":  {repack(t, plain, page(8, 1<<31-1, rows), make([]byte, 8), as(format.Gzip)), "at most 268435456 are read"},
		"a page of 2^31 values":         {repack(t, plain, page(8, 8, 1<<31-1), make([]byte, 8), nothing), "at most 33554432 are read"},
		"pages beyond the file":         {repack(t, plain, nil, nil, func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.TotalCompressedSize = 1 << 40 }), "pages at"},
		"pages before the file":         {repack(t, plain, nil, nil, func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.DataPageOffset = -1 << 40 }), "pages at"},
		"data in the middle of a page": {repack(t, plain, page(800, 800, rows), make([]byte, 800), func(m *format.FileMetaData) {
			c := &m.RowGroups[0].Columns[0].MetaData
			c.DictionaryPageOffset = c.DataPageOffset
			c.DataPageOffset += 40
		}), "no page begins at"},
		"an unknown way of packing":              {repack(t, plain, page(8, 8, 1), make([]byte, 8), as(format.LZO)), "is not read here"},
		"gzip":                                   {bomb(&parquet.Gzip), "unpacks to more than the 800 bytes"},
		"zstd":                                   {bomb(&parquet.Zstd), ""},
		"brotli":                                 {bomb(&parquet.Brotli), "unpacks to more than the 800 bytes"},
		"lz4":                                    {bomb(&parquet.Lz4Raw), "does not unpack to the 800 bytes"},
		"lz4 that is damaged, at any size":       {repack(t, plain, page(8, 800, rows), bytes.Repeat([]byte{0xff}, 8), as(format.Lz4Raw)), "does not unpack to the 800 bytes"},
		"snappy that says so":                    {repack(t, plain, page(len(packed(&parquet.Snappy, 1<<20)), 800, rows), packed(&parquet.Snappy, 1<<20), as(format.Snappy)), "unpacks to 1048576 bytes"},
		"snappy that says what it does not have": {repack(t, plain, page(5, 800, rows), snappyHead(1<<31-1), as(format.Snappy)), "it unpacks to"},
	} {
		took, err := opened(t, c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "t.parquet") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if took > 40<<20 {
			t.Errorf("%s: %d bytes were taken to refuse %d", name, took, len(c.file))
		}
	}

	// Equal rows without end: what they take is bounded by the file's size.
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b, parquet.Compression(&parquet.Zstd))
	long := strings.Repeat("x", 4<<10)
	for range 100000 {
		if _, err := w.Write([]row{{Text: long}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 2<<20 {
		t.Fatalf("400 MB of equal text take %d bytes, which is no bomb", b.Len())
	}
	if took, err := opened(t, b.Bytes()); err == nil || !strings.Contains(err.Error(), "it unpacks to more than") || took > 600<<20 {
		t.Errorf("400 MB of equal text in %d bytes: %d bytes taken, %v", b.Len(), took, err)
	}
}

// snappyHead begins a text of n letters.
func snappyHead(n int) []byte {
	b := binary.AppendUvarint(nil, uint64(n))
	if m, err := snappy.DecodedLen(b); err != nil || m != n {
		panic("no head of snappy's")
	}
	return b
}
