package models

import (
	"encoding/json"

	"github.com/vlaring/vlaring/pkg/job"
)

// Tower is what looks at pictures or reads words: one of this package's own, by its
// kind, or an encoder that others have pretrained, from its file. In a job file it
// may be the bare word of the kind.
type Tower struct {
	Kind string `json:"kind,omitempty" yaml:"kind,omitempty" job:"bare"` // of pictures: vit, the default, or cnn
	From string `json:"from,omitempty" yaml:"from,omitempty"`            // a file of weights, the index of a sharded one, or a folder
	// Backbone is what stands in From: written by who has read it, so that nobody
	// else needs the file to build the model. nil: nobody has yet.
	Backbone *Backbone `json:"backbone,omitempty" yaml:"backbone,omitempty"`
}

// Pretrained says whether the tower is from a file.
func (t Tower) Pretrained() bool { return t.From != "" || t.Backbone != nil }

// own takes the default kind away from a tower that is from a file.
func (t *Tower) own(key string, given func(key string) bool) {
	if t.Pretrained() && !given(key+".kind") {
		t.Kind = ""
	}
}

// check checks the tower at key, whose kinds are those.
func (t Tower) check(k *job.Checker, key string, kinds []string, pictures bool) {
	switch {
	case t.Pretrained() && t.Kind != "":
		k.Bad(key+".kind "+key, "is of a tower of this program, and %s.from names a file: give one of them", key)
	case t.From == "" && t.Backbone != nil:
		k.Bad(key+".backbone "+key, "is written for the file of %s.from, and there is none", key)
	case t.Backbone != nil:
		if why := t.Backbone.fault(pictures); why != "" {
			k.Bad(key+".backbone "+key, "%s", why)
		}
	case !t.Pretrained() && (t.Kind != "" || pictures):
		k.OneOf(key, t.Kind, kinds)
	}
}

// MarshalJSON writes the bare kind where that is all.
func (t Tower) MarshalJSON() ([]byte, error) {
	if !t.Pretrained() {
		return json.Marshal(t.Kind)
	}
	type plain Tower
	return json.Marshal(plain(t))
}

// UnmarshalJSON reads both forms.
func (t *Tower) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*t = Tower{}
		return json.Unmarshal(b, &t.Kind)
	}
	type plain Tower
	return json.Unmarshal(b, (*plain)(t))
}
