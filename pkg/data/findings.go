package data

import "fmt"

// Finding is something about a data set that is no error and yet hardly meant:
// a camera that sees nothing, a dimension that never moves, instructions that
// the vocabulary does not know. Training goes on; people are told once, when
// the data is opened.
type Finding struct {
	Kind   string `json:"kind"`             // a short fixed word for scripts, e.g. "equal_pictures"
	Where  string `json:"where,omitempty"`  // file, camera, dimension or split
	What   string `json:"what"`             // a clause in plain English with its numbers
	Advice string `json:"advice,omitempty"` // what to do or to type; a clause
}

// String is the finding as one line: where: what; advice.
func (f Finding) String() string {
	s := f.What
	if f.Where != "" {
		s = f.Where + ": " + s
	}
	if f.Advice != "" {
		s += "; " + f.Advice
	}
	return s
}

// find notes a finding of the data set that is being opened.
func (o *Opening) find(kind, where, advice, what string, args ...any) {
	o.findings = append(o.findings, Finding{Kind: kind, Where: where, What: fmt.Sprintf(what, args...), Advice: advice})
}
