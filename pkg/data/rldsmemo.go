package data

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/vlaring/vlaring/internal/octets"
)

// What a Scan keeps of a shard: the columns of its steps, and where their
// pictures lie.
//
//	uvarint episodes and samples before it, records in the file, episodes, steps of each
//	uvarint cameras  u8 texts  uvarint vectors, of each  uvarint dim
//	cameras:  tally; of each camera, for each step  varint bytes behind the picture before it, uvarint length, u32 CRC-32C
//	texts:    uvarint n, n × (uvarint length, bytes); for each step  uvarint which
//	vectors:  of each, for each step  dim × f32
//
// Numbers of episodes and samples before it are kept because findings and
// data.skip name places by them: a shard that has moved is read again.

// rldsMemoVersion is that of this form.
const rldsMemoVersion = 2

// rldsMark is how far a scan is.
type rldsMark struct {
	eps, steps int
	stamp      stamp
	tally      pictureTally
}

// mark begins a shard.
func (s *rldsScan) mark(f *os.File) (rldsMark, error) {
	info, err := f.Stat()
	if err != nil {
		return rldsMark{}, err
	}
	m := rldsMark{eps: s.table.eps, steps: len(s.table.episode), stamp: stampOf(info), tally: s.o.pictures}
	s.o.pictures = pictureTally{} // of this shard alone, to be kept with it
	return m, nil
}

// memo ends a shard of n records that began at m, and returns what is to be kept of it.
func (s *rldsScan) memo(m rldsMark, n int) []byte {
	t, tally := &s.table, s.o.pictures
	s.o.pictures = m.tally.with(tally)
	put := binary.AppendUvarint
	b := put(put(put(put(nil, uint64(m.eps)), uint64(m.steps)), uint64(n)), uint64(t.eps-m.eps))
	for i := m.steps; i < len(t.episode); {
		first := i
		for i < len(t.episode) && t.episode[i] == t.episode[first] {
			i++
		}
		for missing := int(t.episode[first]) - m.eps; missing > 0; missing-- { // episodes of no steps
			b = put(b, 0)
			m.eps++
		}
		b = put(b, uint64(i-first))
		m.eps++
	}
	for ; m.eps < t.eps; m.eps++ {
		b = put(b, 0)
	}
	texts := byte(0)
	if len(t.text) > 0 {
		texts = 1
	}
	b = append(put(b, uint64(len(s.pictures))), texts)
	b = put(b, uint64(len(s.fields.vectors)))
	for _, v := range s.fields.vectors {
		b = put(b, uint64(v.dim()))
	}
	if len(s.pictures) > 0 {
		b = tally.append(b)
	}
	for _, camera := range s.pictures {
		end := int64(0)
		for _, p := range camera[m.steps:] {
			b = put(binary.AppendVarint(b, p.off-end), uint64(p.len))
			b = binary.LittleEndian.AppendUint32(b, p.crc)
			end = p.off + int64(p.len)
		}
	}
	if len(t.text) > 0 {
		var own textIndex
		var which []byte
		for _, k := range t.text[m.steps:] {
			which = put(which, uint64(own.add(s.texts.texts[k])))
		}
		b = put(b, uint64(len(own.texts)))
		for _, x := range own.texts {
			b = append(put(b, uint64(len(x))), x...)
		}
		b = append(b, which...)
	}
	for _, v := range s.fields.vectors {
		c := t.float(v.name)
		b = octets.Append(b, c.rows[m.steps*c.dim:])
	}
	return b
}

// recall adds the steps of a shard from the Scan; ok is false where it must be read.
func (s *rldsScan) recall(sh rldsShard) (sum string, ok bool, err error) {
	k, err := s.scan.recall(sh.file, part(sh), false)
	if k == nil || err != nil {
		return "", false, err
	}
	if !s.learn(k.memo, sh) {
		delete(s.scan.now.files, s.scan.name(sh.file, part(sh)))
		return "", false, nil
	}
	s.done += int64(sh.episodes)
	return hex.EncodeToString(k.content[:]), true, s.o.tick(s.done, s.total, "records")
}

// part names the chosen records of a shard that is not taken whole.
func part(sh rldsShard) string {
	if sh.from == 0 && sh.to == sh.episodes {
		return ""
	}
	return fmt.Sprintf(" %d-%d", sh.from, sh.to)
}

// learn reads a memo. It changes nothing where the memo does not fit.
func (s *rldsScan) learn(memo []byte, sh rldsShard) bool {
	t, r := &s.table, &memoReader{b: memo}
	if r.int() != t.eps || r.int() != len(t.episode) || r.int() != sh.episodes {
		return false
	}
	eps := r.int()
	if eps > len(r.b) {
		return false
	}
	lens, steps := make([]int, eps), 0
	for i := range lens {
		lens[i] = r.int()
		steps += lens[i]
	}
	cameras, withTexts := r.int(), r.byte() == 1
	if steps < 0 || len(t.episode)+steps > maxSamples || cameras != len(s.fields.cameras) || withTexts != (s.fields.texts != nil) && steps > 0 || r.int() != len(s.fields.vectors) {
		return false
	}
	for _, v := range s.fields.vectors {
		if r.int() != v.dim() {
			return false
		}
	}
	var tally pictureTally
	if cameras > 0 {
		tally = r.tally()
	}
	if cameras*steps > len(r.b) {
		return false
	}
	pictures := make([][]picture, cameras)
	for k := range pictures {
		end := int64(0)
		for range steps {
			p := picture{off: end + r.signed(), len: int32(r.int()), shard: int32(len(s.files)), crc: r.uint32()}
			end = p.off + int64(p.len)
			pictures[k] = append(pictures[k], p)
		}
	}
	var texts []string
	var which []int
	if withTexts {
		n := r.int()
		if n > len(r.b) {
			return false
		}
		for range n {
			texts = append(texts, string(r.take(r.int())))
		}
		for range steps {
			k := r.int()
			if k >= len(texts) {
				return false
			}
			which = append(which, k)
		}
	}
	rows := make([][]byte, len(s.fields.vectors))
	for k, v := range s.fields.vectors {
		rows[k] = r.take(4 * steps * v.dim())
	}
	if r.short || len(r.b) > 0 {
		return false
	}

	s.files, s.firsts, s.froms = append(s.files, sh.file), append(s.firsts, t.eps), append(s.froms, sh.from)
	s.o.pictures = s.o.pictures.with(tally)
	for k, l := range pictures {
		s.pictures[k] = append(s.pictures[k], l...)
	}
	for _, k := range which {
		t.text = append(t.text, s.texts.add(texts[k]))
	}
	for k, v := range s.fields.vectors {
		values := make([]float32, len(rows[k])/4)
		octets.Get(values, rows[k])
		c := t.float(v.name)
		c.rows = append(c.rows, values...)
	}
	for _, n := range lens {
		for range n {
			t.episode = append(t.episode, int32(t.eps))
		}
		t.eps++
	}
	return true
}
