package lerobot

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// A parquet file says how much memory its reader is to take: lists of so many entries,
// pages of so many bytes and values. Its reader believes all of that, and a few bytes that lie
// end the program for want of memory, which nothing can recover from. So what a file says
// is compared with what it has before it is read.
const (
	maxFooter     = 256 << 20
	maxPageHeader = 1 << 20
	maxPage       = 256 << 20 // bytes of a page, packed or not
	maxPageValues = 1 << 25
	maxNesting    = 32
	leastColumn   = 256 << 20 // bytes that a column may unpack to in any file …
	unpacks       = 64        // … and beyond that so many times the file's size
)

// mostOf is how many bytes a column of a file of so many may unpack to: a few bytes can
// stand for any number of equal rows.
func mostOf(size int64) int64 { return leastColumn + unpacks*size }

// checkFooter looks at what a file has to say of itself.
func checkFooter(r io.ReaderAt, size int64) error {
	var tail [8]byte
	if size < int64(len(tail)) {
		return errors.New("it is too short")
	}
	if _, err := r.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4]))
	switch magic := string(tail[4:]); {
	case magic == "PARE":
		return errors.New("it is encrypted")
	case magic != "PAR1":
		return errors.New("it does not end in PAR1")
	case n > size-int64(len(tail)) || n > maxFooter:
		return fmt.Errorf("its footer is said to have %d bytes, and the file has %d", n, size)
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, size-int64(len(tail))-n); err != nil {
		return err
	}
	c := compact{b: b}
	return c.structure(0)
}

// compact walks over a structure in Thrift's compact protocol, and finds whether all
// that it claims to hold can be in its bytes.
type compact struct {
	b  []byte
	at int
}

var errClaims = errors.New("a list or a text of it is said to be longer than all that there is")

func (c *compact) byte() (byte, error) {
	if c.at >= len(c.b) {
		return 0, io.ErrUnexpectedEOF
	}
	c.at++
	return c.b[c.at-1], nil
}

// uint reads a number.
func (c *compact) uint() (uint64, error) {
	v, n := binary.Uvarint(c.b[c.at:])
	switch {
	case n == 0:
		return 0, io.ErrUnexpectedEOF
	case n < 0:
		return 0, errors.New("a number of more than 64 bits")
	}
	c.at += n
	return v, nil
}

// claim reads a length, of what takes a byte each at least.
func (c *compact) claim() (int, error) {
	n, err := c.uint()
	if err == nil && n > uint64(len(c.b)-c.at) {
		err = errClaims
	}
	return int(n), err
}

func (c *compact) structure(depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("it is nested deeper than %d", maxNesting)
	}
	for {
		head, err := c.byte()
		if err != nil || head == 0 {
			return err
		}
		if head>>4 == 0 { // the field's number stands for itself
			if _, err := c.uint(); err != nil {
				return err
			}
		}
		if kind := thrift.Type(head & 0xf); kind != thrift.TRUE && kind != thrift.FALSE { // a truth value is in its kind
			if err := c.value(kind, depth); err != nil {
				return err
			}
		}
	}
}

// value passes over what is not a field's truth value.
func (c *compact) value(kind thrift.Type, depth int) error {
	skip := 0
	switch kind {
	case thrift.TRUE, thrift.FALSE, thrift.I8:
		skip = 1
	case thrift.I16, thrift.I32, thrift.I64:
		_, err := c.uint()
		return err
	case thrift.DOUBLE:
		skip = 8
	case thrift.BINARY:
		n, err := c.claim()
		if err != nil {
			return err
		}
		skip = n
	case thrift.LIST, thrift.SET:
		head, err := c.byte()
		if err != nil {
			return err
		}
		n := int(head >> 4)
		if n == 0xf {
			if n, err = c.claim(); err != nil {
				return err
			}
		}
		return c.values(n, depth, thrift.Type(head&0xf))
	case thrift.MAP:
		n, err := c.claim()
		if err != nil || n == 0 {
			return err
		}
		head, err := c.byte()
		if err != nil {
			return err
		}
		return c.values(n, depth, thrift.Type(head>>4), thrift.Type(head&0xf))
	case thrift.STRUCT:
		return c.structure(depth + 1)
	default:
		return fmt.Errorf("a value of kind %d", kind)
	}
	if skip > len(c.b)-c.at {
		return errClaims
	}
	c.at += skip
	return nil
}

// values passes over n times values of these kinds.
func (c *compact) values(n, depth int, kinds ...thrift.Type) error {
	for range n {
		for _, k := range kinds {
			if err := c.value(k, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunkOf is a column in a row group of a table.
type chunkOf struct{ group, leaf int }

// check looks once at all pages of a column in a row group before any of them is unpacked.
func (t *Table) check(at chunkOf) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err, done := t.checked[at]
	if !done {
		if err = t.checkPages(t.file.Metadata().RowGroups[at.group].Columns[at.leaf].MetaData); err != nil {
			err = fmt.Errorf("it claims what it does not hold: %w", err)
		}
		if t.checked == nil {
			t.checked = map[chunkOf]error{}
		}
		t.checked[at] = err
	}
	return err
}

func (t *Table) checkPages(m format.ColumnMetaData) error {
	start := m.DataPageOffset
	if m.DictionaryPageOffset != 0 {
		start = m.DictionaryPageOffset
	}
	end := start + m.TotalCompressedSize
	if start < 4 || m.TotalCompressedSize < 0 || end < start || end > t.size {
		return fmt.Errorf("pages at %d to %d of %d bytes", start, end, t.size)
	}
	var starts []int64
	for at := start; at < end; {
		h, body, err := t.header(at, end)
		if err != nil {
			return fmt.Errorf("the page at %d: %w", at, err)
		}
		starts = append(starts, at)
		packed, full := int64(h.CompressedPageSize), int64(h.UncompressedPageSize)
		values, levels := int64(0), int64(0)
		zipped := true
		switch {
		case h.DataPageHeaderV2.Valid:
			v := h.DataPageHeaderV2.V
			values, levels = int64(v.NumValues), int64(v.RepetitionLevelsByteLength)+int64(v.DefinitionLevelsByteLength)
			zipped = !v.IsCompressed.Valid || v.IsCompressed.V
			if v.RepetitionLevelsByteLength < 0 || v.DefinitionLevelsByteLength < 0 {
				return fmt.Errorf("the page at %d: levels of %d bytes", at, levels)
			}
		case h.DataPageHeader.Valid:
			values = int64(h.DataPageHeader.V.NumValues)
		case h.DictionaryPageHeader.Valid:
			values = int64(h.DictionaryPageHeader.V.NumValues)
		}
		switch {
		case packed < levels || packed > end-body || full < levels || full > maxPage || packed > maxPage:
			return fmt.Errorf("the page at %d: %d bytes, %d unpacked, of which %d are levels, where %d are left and at most %d are read", at, packed, full, levels, end-body, maxPage)
		case values < 0 || values > maxPageValues:
			return fmt.Errorf("the page at %d: %d values; at most %d are read", at, values, maxPageValues)
		}
		if zipped {
			if err := t.unpacksTo(m.Codec, body+levels, packed-levels, full-levels); err != nil {
				return fmt.Errorf("the page at %d: %w", at, err)
			}
		}
		at = body + packed
	}
	if !slices.Contains(starts, m.DataPageOffset) && len(starts) > 0 {
		return fmt.Errorf("no page begins at %d", m.DataPageOffset)
	}
	return nil
}

// header reads the header of the page at an offset, and says where its body begins.
func (t *Table) header(at, end int64) (h format.PageHeader, body int64, err error) {
	for _, most := range []int64{1 << 10, 1 << 15, maxPageHeader} {
		b := make([]byte, min(most, end-at))
		if _, err = t.f.ReadAt(b, at); err != nil {
			return h, 0, err
		}
		c := compact{b: b}
		if err = c.structure(0); err == nil {
			err = thrift.Unmarshal(new(thrift.CompactProtocol), b[:c.at], &h)
			return h, at + int64(c.at), err
		}
	}
	return h, 0, err
}

// unpacksTo says whether packed bytes are no more than size when they are unpacked.
func (t *Table) unpacksTo(codec format.CompressionCodec, at, packed, size int64) (err error) {
	if codec == format.Uncompressed || packed == 0 {
		return nil
	}
	in := io.NewSectionReader(t.f, at, packed)
	var out io.Reader
	switch codec {
	case format.Snappy: // says its size in front
		b := make([]byte, min(packed, binary.MaxVarintLen64))
		if _, err := io.ReadFull(in, b); err != nil {
			return err
		}
		if n, err := snappy.DecodedLen(b); err != nil || int64(n) > size {
			return fmt.Errorf("it unpacks to %d bytes, and is said to have %d (%v)", n, size, err)
		}
		return nil
	case format.Lz4Raw: // its reader tries ever larger memory
		b := make([]byte, packed)
		if _, err := io.ReadFull(in, b); err != nil {
			return err
		}
		if _, err := lz4.UncompressBlock(b, make([]byte, size)); err != nil {
			return fmt.Errorf("it does not unpack to the %d bytes that it is said to have: %w", size, err)
		}
		return nil
	case format.Gzip:
		if out, err = gzip.NewReader(in); err != nil {
			return err
		}
	case format.Zstd:
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxPage))
		if err != nil {
			return err
		}
		defer z.Close()
		out = z
	case format.Brotli:
		out = brotli.NewReader(in)
	default:
		return fmt.Errorf("it is packed by %s, which is not read here", codec)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(out, size+1))
	switch {
	case err != nil:
		return err
	case n > size:
		return fmt.Errorf("it unpacks to more than the %d bytes that it is said to have", size)
	}
	return nil
}
