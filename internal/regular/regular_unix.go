//go:build unix

package regular

import "syscall"

// nonblock has open come back at once, whatever it finds. It means nothing for
// regular files.
const nonblock = syscall.O_NONBLOCK
