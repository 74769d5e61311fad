package natsbus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/nats-io/nkeys"
)

// tokenKey is the key pair that stands for a token. Who signs a server's nonce
// with it proves to have the token and does not show it: neither to who can
// read the network, nor to a process that has taken the port of a broker that
// died.
func tokenKey(token string) (nkeys.KeyPair, error) {
	k, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, derive(token, "vlaring nkey"))
	if err != nil {
		return nil, fmt.Errorf("the token's key: %w", err)
	}
	return k, nil
}

// derive is 32 bytes that follow from the token, and from which it does not.
func derive(token, what string) []byte {
	h := hmac.New(sha256.New, []byte(token))
	h.Write([]byte(what))
	return h.Sum(nil)
}

// routePassword is what brokers of a job show each other.
func routePassword(token string) string { return hex.EncodeToString(derive(token, "vlaring route")) }

// pair is the key pair of the token or the key.
func (c Credentials) pair() (nkeys.KeyPair, error) {
	if c.Key != nil {
		return c.Key.pair()
	}
	return tokenKey(c.Token)
}

// sign signs a server's nonce.
func (c Credentials) sign(nonce []byte) ([]byte, error) {
	k, err := c.pair()
	if err != nil {
		return nil, err
	}
	return k.Sign(nonce)
}

// prove returns the public key of the token, or of the key, and the signature of a server's
// nonce, as they stand in CONNECT.
func (c Credentials) prove(nonce []byte) (public, signature string, err error) {
	k, err := c.pair()
	if err != nil {
		return "", "", err
	}
	if public, err = k.PublicKey(); err != nil {
		return "", "", err
	}
	sig, err := c.sign(nonce)
	return public, base64.RawURLEncoding.EncodeToString(sig), err
}
