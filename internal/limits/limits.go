// Package limits is the table of how much there may be of what a job, its
// members and its messages are made of. What reads a job file refuses what lies
// beyond, with line and column, and what reads messages expects no more, so that
// nothing begins that cannot go on. docs/formats.md has the same table.
package limits

// Of a job.
const (
	Workers    = 4096    // members of a job, spares included
	Mesh       = 1024    // members where each has a server of its own, connected with all others
	Name       = 64      // bytes of a job's name and of a worker's id
	Samples    = 1 << 20 // of a step, and so its micro-batches and their groups
	Vocabulary = 1 << 24 // tokens
	JobFile    = 1 << 20 // bytes of its text
	Chunk      = 1 << 20 // bytes of a frame's payload in the ring
	Bucket     = 1 << 30 // bytes of gradient that are reduced as one
	Window     = 64 << 20
)

// Of messages.
const (
	// Message bounds a control message in bytes. It is the max_payload of a NATS
	// server that nobody has changed.
	Message = 1 << 20

	// Inline is how much of the job and its data's description goes into the
	// answer to a join. More is fetched by its hash.
	Inline = 256 << 10

	// Description bounds the job's text and its data's description, with the
	// vocabulary, in bytes.
	Description = 64 << 20

	// Sources bounds the members that one that is behind is given to take the
	// state from.
	Sources = 64

	// Address bounds where a member is to be reached, in bytes.
	Address = 100

	// Rate bounds the heartbeats of all members in a second. The coordinator
	// takes 10 to 20 µs for one.
	Rate = 50_000
)

// Of connections.
const (
	// Connections of a member to its server: for control, state and the ring.
	Connections = 3

	// Asking are the connections that commands such as status may have besides.
	Asking = 64

	// Strangers are the connections to an embedded server that have yet to prove who
	// they are. The oldest of more are closed.
	Strangers = 256

	// Broker is how many connections an embedded server takes: those of all
	// members, of the coordinator and of commands.
	Broker = (Workers+1)*Connections + Asking
)

// Files is how many files a coordinator with an embedded server has open for
// the connections of so many workers.
func Files(workers int) int { return (workers+1)*Connections + Asking }
