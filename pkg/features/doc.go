// Package features keeps what frozen encoders make of their inputs, for all workers of
// a machine and for the runs after this one:
//
//	s := features.Open(features.Options{Dirs: []string{…}, Bytes: 1 << 30, Pictures: true})
//	… models.ProgramOptions{Train: true, Keeper: s}
//	s.Close()
//
// # A shelf
//
// What one part of a model makes is on one shelf: a table in memory, which is looked
// into first and holds the first results (of pictures only where there is no file: the
// system has its pages in memory, for all processes), and behind it a file. The file is a table
// too, with as many places as its maker's bound allows, and grows as it is filled:
//
//	FOLDER/<32 hex digits of models.Part.ID>.features
//	│ head, 64 bytes │ place 0 │ place 1 │ …       a place: CRC-32C │ key, 32 bytes │ floats
//
// A result is looked for in a few places that its key says. A place is written at once,
// with the checksum of the key and the floats, so one that is half written (by a process
// that was killed), written by two at once, or damaged is as good as none: the result is
// made again and written anew. Nobody waits for anybody.
//
// A table that is full takes no more: of inputs that come round and round, each time in
// another order, those that are kept are worth as much as any others. Room for a new
// table is made by removing those of other parts that no process uses (each holds a
// shared lock on what it uses), that of the longest disuse first.
//
// # Where
//
// In the first folder of Options.Dirs that can be written to, belongs to this user and is not
// open to all: a result is believed, and whoever writes one decides what is trained. A
// folder's group may write to it, as some systems have it. Where there is none, or
// the disk is full, what fits into memory is kept, and that is said once. What is lost
// is computed again: nothing here is an error, and no result is wrong.
package features
