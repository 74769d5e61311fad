package tensor

import "fmt"

// ShapeError is what the package panics with when shapes do not fit: a mistake
// of the program, not of its input.
type ShapeError struct {
	Op   string // operation
	Want string
	Got  string
}

func (e *ShapeError) Error() string {
	return fmt.Sprintf("tensor: %s: want %s, got %s", e.Op, e.Want, e.Got)
}

func sprint(a ...any) string { return fmt.Sprint(a...) }

// need panics with a *ShapeError unless ok.
func need(ok bool, op, want string, got ...any) {
	if !ok {
		panic(&ShapeError{Op: op, Want: want, Got: fmt.Sprint(got...)})
	}
}

// What an optional operand looks like in a *ShapeError.

func paramShape(p *Param) string {
	if p == nil {
		return "none"
	}
	return sprint(p.Name, " ", p.Shape)
}

func varShape(v *Var) string {
	if v == nil {
		return "none"
	}
	return sprint(v.Shape)
}

func flagShape(b *Bytes) string {
	if b == nil {
		return "none"
	}
	return sprint(b.Shape)
}

// size is the number of elements of a shape.
func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
