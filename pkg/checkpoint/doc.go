// Package checkpoint keeps a run's state on disk so that a crash at any
// instruction leaves a checkpoint that loads, and so that bytes that changed
// are found, named and passed over, never used.
//
//	checkpoints/
//	  step-00000100/
//	    model.safetensors       PyTorch state_dict names and layouts
//	    optimizer.safetensors   exp_avg.<name>, exp_avg_sq.<name>
//	    manifest.json           what it is, SHA-256 and size of each file, and a checksum of itself
//	  latest                    the name of the newest complete one, for people and scripts
//
// Writing goes through a [Store]:
//
//	s, err := checkpoint.OpenDisk("runs/x/checkpoints")
//	w, err := s.Begin(100)
//	f, err := w.Create("model.safetensors", size) // written in any order, from anywhere
//	… f.WriteAt, f.Close, more files …
//	err = w.Commit(checkpoint.Manifest{Step: 100, …}) // or w.Abort()
//
// and on disk takes this course; a crash between any two of its points leaves
// either no trace in the list of checkpoints, or all of it:
//
//	.tmp-step-00000100-6b1f…/      made, each file written and fsynced
//	          │                    hashed as the disk has it, manifest.json last, directory fsynced
//	          ▼ rename
//	step-00000100/                 parent directory fsynced
//	          ▼
//	latest                         replaced by rename, parent fsynced
//
// Reading: [LatestGood] finds the newest checkpoint that verifies whole and
// says what it passed over and why, [Verify] reads every byte of one,
// [Match] compares a file's tensors with what a model
// expects and lists every difference.
//
// Duties of the caller: one process writes to a directory at a time
// ([LockRunDir] sees to it); a Writer ends in Commit or Abort; what [Retain]
// proposes to remove is removed by the caller, after it was shown.
package checkpoint
