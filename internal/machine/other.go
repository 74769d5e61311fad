//go:build !unix

package machine

// It does not build elsewhere: runs are process groups that are told by signals,
// and locks that end with their process. The compiler says so here.
const _ int = "vlaring needs a Unix system: Linux, macOS or a BSD"
