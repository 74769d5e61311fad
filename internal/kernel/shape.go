package kernel

import "fmt"

// ShapeError is what kernels panic with when operands do not fit: a mistake of the program, not of its input.
type ShapeError struct{ Op, Want, Got string }

func (e *ShapeError) Error() string { return e.Op + ": want " + e.Want + ", got " + e.Got }

func sprintf(format string, a ...any) string { return fmt.Sprintf(format, a...) }
