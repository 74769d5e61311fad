package models

import (
	"encoding/json"
	"strings"
	"testing"
)

// A Spec comes back from JSON as it was, and one that was written before there
// was a list is read by its six keys; their readers find them still.
func TestSpecJSON(t *testing.T) {
	vla := Spec{Known(Images, 3, 32, 48), Known(Instruction, 12), Known(Actions, 7)}
	cross := Spec{Known(VisionFeatures, 5, 2), Known(LanguageFeatures, 4, 3), Known(Actions, 2)}
	for old, want := range map[string]Spec{
		`{"image":[3,32,48],"tokens":12,"action":7,"labels":false,"vision":[0,0],"language":[0,0]}`: vla,
		`{"image":[1,8,8],"tokens":0,"action":3,"labels":false,"vision":[0,0],"language":[0,0]}`:    {Known(Images, 1, 8, 8), Known(Actions, 3)},
		`{"image":[0,0,0],"tokens":6,"action":0,"labels":true,"vision":[0,0],"language":[0,0]}`:     {Known(Instruction, 6), Known(Labels, 6)},
		`{"image":[0,0,0],"tokens":0,"action":2,"labels":false,"vision":[5,2],"language":[4,3]}`:    cross,
	} {
		var got Spec
		if err := json.Unmarshal([]byte(old), &got); err != nil || !got.Equal(want) {
			t.Errorf("%s is read as %s (%v), want %s", old, got, err, want)
		}
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(b), strings.TrimSuffix(old, "}")+`,"features":[`) {
			t.Errorf("%s is written as %s", want, b)
		}
	}
	more := Spec{Known(Images, 3, 8, 8), {Name: "wrist", Type: Image, Role: Input, Shape: []int{3, 8, 8}, Source: "observation/wrist"},
		{Name: "state", Type: Float, Role: Input, Shape: []int{2, 9}, Normalise: true}, Known(Actions, 4)}
	b, err := json.Marshal(more)
	var back Spec
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || !back.Equal(more) || back[1].Source != "observation/wrist" || back.Check(1<<20) != nil {
		t.Errorf("%s came back as %s (%v)", more, back, err)
	}
	if want := "images 3×8×8, wrist 3×8×8, state 2×9, actions 4"; more.String() != want {
		t.Errorf("%s, want %s", more, want)
	}
}

func TestSpecCheck(t *testing.T) {
	for want, s := range map[string]Spec{
		"name of its own":  {Known(Actions, 2), Known(Actions, 2)},
		"of type \"f64\"":  {{Name: "x", Type: "f64", Role: Input, Shape: []int{2}}},
		"the role \"out\"": {{Name: "x", Type: Float, Role: "out", Shape: []int{2}}},
		"want [tokens]":    {{Name: "x", Type: Token, Role: Input, Shape: []int{2, 2}}},
		"want [channels":   {{Name: "x", Type: Image, Role: Input, Shape: []int{2, 2}}},
		"a size is 0":      {{Name: "x", Type: Float, Role: Input, Shape: []int{2, 0}}},
		"a size is 65536":  {{Name: "x", Type: Float, Role: Input, Shape: []int{1 << 16, 1 << 16}}},
	} {
		if err := s.Check(1 << 20); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", s, err, want)
		}
	}
}

// A model says by name what it lacks, and takes what it wants in any order of
// the data's.
func TestAccepts(t *testing.T) {
	m := build(t, small)
	s := m.Spec(4)
	if err := m.Accepts(Spec{s[2], s[0], s[1]}); err != nil {
		t.Error(err)
	}
	for want, s := range map[string]Spec{
		"takes samples of images 3×12×12, instruction_tokens any, actions 5; these are of images 3×12×12, actions 5": {s[0], s[2]},
		"these are of images 3×12×12, instruction_tokens any, actions 5":                                             m.Spec(0),
		"these are of images 3×12×12, instruction_tokens 4, actions 6":                                               {s[0], s[1], Known(Actions, 6)},
		"instruction_tokens has 10 tokens, and the model takes at most 9 (model.max_len)":                            m.Spec(10),
	} {
		if err := m.Accepts(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", s, err, want)
		}
	}
}
