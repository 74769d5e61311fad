package models

// Spec gives the shapes of one sample; a zero field means that the kind of
// model or data has no such input. It is what a model wants and what a data
// source has, and the two are compared before the first step.
type Spec struct {
	Image    [3]int `json:"image"`    // C, H, W of the image after resizing
	Tokens   int    `json:"tokens"`   // T, instruction tokens (padded)
	Action   int    `json:"action"`   // A, width of the regression target
	Labels   bool   `json:"labels"`   // T target tokens (copy task)
	Vision   [2]int `json:"vision"`   // P, Dv of given vision features (cross_modal)
	Language [2]int `json:"language"` // T, Dl of given language features (cross_modal)
}

// NoLabel is the label of a token that is no target.
const NoLabel = -1

// Batch is one micro-batch, ready for a model: N samples, row-major. Fields
// that the Spec lacks are nil. A Batch is owned by whoever built it; a Program
// copies what it needs in Load.
type Batch struct {
	N        int
	IDs      []uint64  // [N] sample ids, the RNG's sample word
	Images   []float32 // [N, C, H, W]
	Tokens   []int32   // [N, T]
	Actions  []float32 // [N, A] normalised regression target
	Labels   []int32   // [N, T] target tokens, or NoLabel
	Vision   []float32 // [N, P, Dv]
	Language []float32 // [N, T, Dl]
}

// NewBatch allocates a batch of n samples of spec.
func NewBatch(n int, s Spec) *Batch {
	b := &Batch{N: n, IDs: make([]uint64, n)}
	if s.Image[0] > 0 {
		b.Images = make([]float32, n*s.Image[0]*s.Image[1]*s.Image[2])
	}
	if s.Tokens > 0 {
		b.Tokens = make([]int32, n*s.Tokens)
	}
	if s.Action > 0 {
		b.Actions = make([]float32, n*s.Action)
	}
	if s.Labels {
		b.Labels = make([]int32, n*s.Tokens)
	}
	if s.Vision[0] > 0 {
		b.Vision = make([]float32, n*s.Vision[0]*s.Vision[1])
	}
	if s.Language[0] > 0 {
		b.Language = make([]float32, n*s.Language[0]*s.Language[1])
	}
	return b
}
