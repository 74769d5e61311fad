package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"
)

const (
	magic      = "VLRSTR01"
	nonceBytes = 32
	maxName    = 255

	// handshakeWait bounds everything before the first frame, the wait for a
	// peer that has not formed the generation yet included.
	handshakeWait = 5 * time.Second
)

// hello is what a dialler says first.
type hello struct {
	generation uint64
	from, to   string
	nonce      [nonceBytes]byte
}

func (h *hello) write(w io.Writer) error {
	b := append([]byte(magic), binary.LittleEndian.AppendUint64(nil, h.generation)...)
	b = append(b, byte(len(h.from)))
	b = append(b, h.from...)
	b = append(b, byte(len(h.to)))
	b = append(b, h.to...)
	_, err := w.Write(append(b, h.nonce[:]...))
	return err
}

func readHello(r io.Reader) (h hello, err error) {
	var head [len(magic) + 8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return h, err
	}
	if string(head[:len(magic)]) != magic {
		return h, errors.New("not a stream of this protocol")
	}
	h.generation = binary.LittleEndian.Uint64(head[len(magic):])
	for _, s := range []*string{&h.from, &h.to} {
		var n [1]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return h, err
		}
		name := make([]byte, n[0])
		if _, err := io.ReadFull(r, name); err != nil {
			return h, err
		}
		*s = string(name)
	}
	_, err = io.ReadFull(r, h.nonce[:])
	return h, err
}

// proof is what one end says to show that it knows the secret, to this peer, on
// this connection, now.
func proof(secret []byte, role string, h *hello, nonce, binding []byte) []byte {
	m := hmac.New(sha256.New, secret)
	part := func(b []byte) { // each with its length, so that none can pass for two
		m.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(b))))
		m.Write(b)
	}
	part([]byte(role))
	part(binary.LittleEndian.AppendUint64(nil, h.generation))
	part([]byte(h.from))
	part([]byte(h.to))
	part(h.nonce[:])
	part(nonce)
	part(binding)
	return m.Sum(nil)
}

var errProof = errors.New("the other end does not know the secret of this generation's pair")

// introduce is the dialler's half.
func introduce(c net.Conn, h hello, secret, binding []byte) error {
	rand.Read(h.nonce[:])
	if err := h.write(c); err != nil {
		return err
	}
	var answer [nonceBytes + sha256.Size]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	nonce := answer[:nonceBytes]
	if !hmac.Equal(answer[nonceBytes:], proof(secret, "listener", &h, nonce, binding)) {
		return errProof
	}
	_, err := c.Write(proof(secret, "dialler", &h, nonce, binding))
	return err
}

// answer is the listener's half, once it has read h.
func answer(c net.Conn, h *hello, secret, binding []byte) error {
	var nonce [nonceBytes]byte
	rand.Read(nonce[:])
	if _, err := c.Write(append(nonce[:], proof(secret, "listener", h, nonce[:], binding)...)); err != nil {
		return err
	}
	var got [sha256.Size]byte
	if _, err := io.ReadFull(c, got[:]); err != nil {
		return err
	}
	if !hmac.Equal(got[:], proof(secret, "dialler", h, nonce[:], binding)) {
		return errProof
	}
	return nil
}

// certificate makes one that says nothing: what counts is the proof that both
// ends know their secret of the generation.
func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// encrypt wraps a connection in TLS and returns what is the session's alone.
func encrypt(c net.Conn, cert tls.Certificate, dials bool) (net.Conn, []byte, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, SessionTicketsDisabled: true}
	var t *tls.Conn
	if dials {
		t = tls.Client(c, conf)
	} else {
		t = tls.Server(c, conf)
	}
	if err := t.Handshake(); err != nil {
		return nil, nil, err
	}
	state := t.ConnectionState()
	binding, err := state.ExportKeyingMaterial("EXPERIMENTAL vlaring stream", nil, 32)
	if err != nil {
		return nil, nil, fmt.Errorf("TLS: %w", err)
	}
	return t, binding, nil
}
