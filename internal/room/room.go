// Package room says how much there is free on a disk.
package room

// Space is the room on a disk for an ordinary user's files, or root's where
// this process is root's.
type Space struct {
	Bytes  int64  // free
	Inodes uint64 // free: files and directories that can still be made
	Known  bool   // the system says; else the numbers are 0
	Counts bool   // the file system has a number of inodes
}
