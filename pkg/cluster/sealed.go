package cluster

// The marks by which the compiler knows messages, events and actions apart.
// What is not marked here cannot be sent, handled or carried out.

// Messages from workers: each says who sent it, and of which generation.

func (*Join) message()      {}
func (*Ready) message()     {}
func (*Standing) message()  {}
func (*Formed) message()    {}
func (*Heartbeat) message() {}
func (*Report) message()    {}
func (*Stall) message()     {}
func (*Notice) message()    {}
func (*Offer) message()     {}
func (*Fault) message()     {}
func (*Retire) message()    {}
func (*Leave) message()     {}

func (*Join) event()      {}
func (*Ready) event()     {}
func (*Standing) event()  {}
func (*Formed) event()    {}
func (*Heartbeat) event() {}
func (*Report) event()    {}
func (*Stall) event()     {}
func (*Notice) event()    {}
func (*Offer) event()     {}
func (*Fault) event()     {}
func (*Retire) event()    {}
func (*Leave) event()     {}

func (m *Join) from() (string, uint64)      { return m.Worker, 0 }
func (m *Ready) from() (string, uint64)     { return m.Worker, 0 }
func (m *Standing) from() (string, uint64)  { return m.Worker, m.Generation }
func (m *Formed) from() (string, uint64)    { return m.Worker, m.Generation }
func (m *Heartbeat) from() (string, uint64) { return m.Worker, m.Generation }
func (m *Report) from() (string, uint64)    { return m.Worker, m.Generation }
func (m *Stall) from() (string, uint64)     { return m.Worker, m.Generation }
func (m *Notice) from() (string, uint64)    { return m.Worker, 0 }
func (m *Fault) from() (string, uint64)     { return m.Worker, m.Generation }
func (m *Retire) from() (string, uint64)    { return m.Worker, 0 }
func (m *Leave) from() (string, uint64)     { return m.Worker, 0 }

// from says nothing of an offer's generation: that is the one which divided the
// state, and may be older than the worker's own.
func (m *Offer) from() (string, uint64) { return m.Worker, 0 }

// Messages from the coordinator.

func (*Restore) message()   {}
func (*Introduce) message() {}
func (*Recall) message()    {}
func (*Assign) message()    {}
func (*Go) message()        {}
func (*Beat) message()      {}
func (*Control) message()   {}
func (*Snapshot) message()  {}
func (*Stored) message()    {}
func (*End) message()       {}

func (*Restore) nodeEvent()   {}
func (*Introduce) nodeEvent() {}
func (*Recall) nodeEvent()    {}
func (*Assign) nodeEvent()    {}
func (*Go) nodeEvent()        {}
func (*Beat) nodeEvent()      {}
func (*Control) nodeEvent()   {}
func (*Snapshot) nodeEvent()  {}
func (*Stored) nodeEvent()    {}
func (*End) nodeEvent()       {}
func (Barred) nodeEvent()     {}

// Messages that are replies, or from outside the job.

func (*Welcome) message()  {}
func (*Lead) message()     {}
func (*Ask) message()      {}
func (*Answered) message() {}

func (*Lead) event() {}

// What the driver of the machine sees, and what it does.

func (tick) event()        {}
func (held) event()        {}
func (malformed) event()   {}
func (rogue) event()       {}
func (scaleTo) event()     {}
func (saved) event()       {}
func (restored) event()    {}
func (WorkerGone) event()  {}
func (StopRequest) event() {}
func (Hopeless) event()    {}
func (asking) event()      {}

func (answer) action()   {}
func (send) action()     {}
func (stepDone) action() {}
func (save) action()     {}
func (rewind) action()   {}
func (disown) action()   {}
func (keep) action()     {}
func (expel) action()    {}
func (unwanted) action() {}
func (note) action()     {}
func (Finish) action()   {}

// What the driver of a node sees, and what it does.

func (tick) nodeEvent()       {}
func (Loaded) nodeEvent()     {}
func (LoadFailed) nodeEvent() {}
func (Listens) nodeEvent()    {}
func (Caught) nodeEvent()     {}
func (Disputed) nodeEvent()   {}
func (Committed) nodeEvent()  {}
func (LoopEnded) nodeEvent()  {}
func (LoopBroke) nodeEvent()  {}
func (HaltedNow) nodeEvent()  {}
func (OfferReady) nodeEvent() {}
func (Waiting) nodeEvent()    {}
func (Retimed) nodeEvent()    {}
func (retire) nodeEvent()     {}
func (depart) nodeEvent()     {}
func (ended) nodeEvent()      {}

func (Prepare) nodeAction()    {}
func (Load) nodeAction()       {}
func (Form) nodeAction()       {}
func (Run) nodeAction()        {}
func (Halt) nodeAction()       {}
func (Tell) nodeAction()       {}
func (Introduced) nodeAction() {}
func (Raise) nodeAction()      {}
func (MakeOffer) nodeAction()  {}
func (Withdraw) nodeAction()   {}
func (Exit) nodeAction()       {}

func (Prepare) task() {}
func (Load) task()    {}
func (Form) task()    {}
func (Run) task()     {}
func (Halt) task()    {}
