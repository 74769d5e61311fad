// Package chaos is a fault injector: it trains a job once undisturbed, then again
// and again while the job's processes are killed, frozen, added and restarted at
// random, and compares the weights. They must be the same to the last bit.
//
//	r, err := chaos.Run(ctx, chaos.Options{Job: j, Faults: 20, Workers: 3, …, Commands: chaos.Commands{…}})
//	if r != nil {
//		fmt.Println(r.Faults, "faults:", r.Equal)
//	}
//
// Every run is of real processes over a NATS broker of its own, which lives in
// this process and outlives the coordinators that are killed:
//
//	Run ─┬─ calm       a coordinator with a broker of its own, from beginning to end
//	     └─ disturbed  broker here, coordinator, workers from elsewhere
//	          draw a fault ─> do it ─> wait for a commit of another generation ─> draw …
//
// However Run ends, by its context, an error or SIGKILL, no process of it is
// left: every one bears a mark in its environment, and a guard, a process of its
// own, ends all that bear it once Run's process is gone. On systems other than
// Linux neither orphans nor marks can be found: workers whose coordinator was
// killed end by themselves there, after cluster.orphan_timeout.
package chaos
