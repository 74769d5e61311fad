// Package convert brings robot data of other forms into one that jobs train from:
//
//	shards of WebDataset (tar, tar.gz, a pipe)          LeRobot 3.0
//	        │                                                ▲
//	     shards ──> sample ──> decode ──> frame ──> checked ─┤
//	 (members of one key)   (pictures, numbers,              ▼
//	                         the instruction)             a folder
//
// Run reads the source once, in its order, and holds an episode's numbers and one
// frame's pictures. What it writes gets its name when all of it is on the disk; until
// then it stands beside, with a journal by which a conversion that was killed goes on
// (journal.go).
//
// All frames must be alike: the same features, of the same shapes. The first one
// says which they are. A member of a kind that is not read is passed over, counted
// and told; a pickle is one, for reading it would run what it holds.
package convert
