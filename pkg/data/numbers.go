package data

import (
	"fmt"
	"strconv"
	"strings"
)

// TokenNumbers reads token numbers, separated by spaces or commas.
func TokenNumbers(s string) ([]int32, error) {
	var ids []int32
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
		n, err := strconv.ParseInt(w, 10, 32)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is no token number; want whole numbers from 0, such as \"3 1 4\"", w)
		}
		ids = append(ids, int32(n))
	}
	return ids, nil
}
