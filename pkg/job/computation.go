package job

// Computation is j without the knobs: the keys that change nothing of what a
// step computes and that workers take on while they live (the cluster's times
// and numbers, when checkpoints are stored and kept, when they are measured).
// Workers of a dead coordinator go on under any job of the same Computation.
// Some keys that compute nothing stay, because they decide how a worker is
// built: the division of gradients into buckets and messages, the topology, the road,
// which moments a worker holds, and whether gradients travel with their checksums.
func (j *Job) Computation() *Job {
	c := *j
	c.Checkpoint = Checkpoint{}
	c.Cluster = Cluster{BucketBytes: j.Cluster.BucketBytes, ChunkBytes: j.Cluster.ChunkBytes, Topology: j.Cluster.Topology, Road: j.Cluster.Road, Reduce: j.Cluster.Reduce, Wire: j.Cluster.Wire, Optimizer: j.Cluster.Optimizer}
	if j.Cluster.Verify > 0 { // whatever the share is: gradients travel with their checksums
		c.Cluster.Verify = 1
	}
	c.Train.EvalEvery, c.Train.RolloutEvery, c.Train.RolloutEpisodes = 0, 0, 0
	c.Train.Cache = nil
	if c.Schedule.Kind == c.Schedule.implied() { // so is a job of before there were kinds: workers know it by these bytes
		c.Schedule.Kind = ""
	}
	return &c
}

// Result is the Computation without what leaves no trace in its bits either:
// two jobs of one Result have the same losses and weights at every step.
func (j *Job) Result() *Job {
	c := j.Computation()
	c.Cluster = Cluster{Reduce: j.Cluster.Reduce, Wire: j.Cluster.Wire}
	c.Data.Delivery = ""
	c.Train.CheckEvery = 0
	if j.Schedule.Kind == "constant" { // a constant rate does not know where it ends
		c.Train.Steps = 0
	}
	return c
}
