package tokenizer

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
)

// Kept is a tokenizer as a checkpoint keeps it: the bytes of its tokenizer.json.
// Of a vocab.txt it is the tokenizer.json that says the same.
type Kept struct {
	Name   string `json:"name"`   // of the file that it was read from
	SHA256 string `json:"sha256"` // of tokenizer.json, in hex
	Pad    int32  `json:"pad"`    // the token that fills rows
	Gzip   []byte `json:"gzip"`   // tokenizer.json, compressed

	once sync.Once
	tok  *Tokenizer
	err  error
}

// Sum is the SHA-256 of the tokenizer.json, in hex.
func (t *Tokenizer) Sum() string {
	sum := sha256.Sum256(t.source)
	return hex.EncodeToString(sum[:])
}

// Keep is t for a checkpoint, whose rows are filled with the token pad.
func (t *Tokenizer) Keep(pad int32) *Kept {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	w.Write(t.source) // into memory
	w.Close()
	return &Kept{Name: t.name, SHA256: t.Sum(), Pad: pad, Gzip: b.Bytes()}
}

// JSON is the tokenizer.json.
func (t *Tokenizer) JSON() []byte { return bytes.Clone(t.source) }

// Open reads what was kept, once.
func (k *Kept) Open() (*Tokenizer, error) {
	k.once.Do(func() { k.tok, k.err = k.open() })
	return k.tok, k.err
}

func (k *Kept) open() (*Tokenizer, error) {
	fail := func(err error) (*Tokenizer, error) {
		return nil, fmt.Errorf("the tokenizer that is kept (%s): %w", k.Name, err)
	}
	r, err := gzip.NewReader(bytes.NewReader(k.Gzip))
	if err != nil {
		return fail(err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return fail(err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != k.SHA256 {
		return fail(fmt.Errorf("its SHA-256 is %x, and %s is written beside it", sum, k.SHA256))
	}
	t, err := parse(k.Name, b)
	if err == nil && (k.Pad < 0 || int(k.Pad) >= t.Size()) {
		return fail(fmt.Errorf("it pads with %d, and has the tokens 0 to %d", k.Pad, t.Size()-1))
	}
	return t, err
}
