package cluster

import "time"

// clock is the time of a process that waits for others, without its own pauses.
// In a pause (the process was stopped, the machine suspended, a write blocked) it
// heard nothing, which is no sign that others were silent. Deadlines go by this
// clock: by how long it has listened, not by how long ago it listened last.
//
//	wall    ──┬─┬─┬─┬────────── stopped ──────────┬─┬─┬──
//	clock   ──┬─┬─┬─┬─┬─┬─┬──  of a pause, however long, only most counts
type clock struct {
	now, wall time.Time
	most      time.Duration
	held      time.Duration
}

// newClock returns a clock that begins at now. It is to be read more often than
// every most: of a longer time between two readings only most counts.
func newClock(now time.Time, most time.Duration) *clock {
	return &clock{now: now, wall: now, most: most}
}

// At moves the clock on to a reading of the wall clock, and returns its time.
func (c *clock) At(wall time.Time) time.Time {
	d := max(wall.Sub(c.wall), 0)
	c.now = c.now.Add(min(d, c.most))
	c.held += max(d-c.most, 0)
	c.wall = wall
	return c.now
}

// Held is the time that was not counted since it was last asked for.
func (c *clock) Held() time.Duration {
	d := c.held
	c.held = 0
	return d
}
