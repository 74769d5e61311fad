// Package view is the terminal: what people and scripts see of a run while it
// goes on. It is pkg/run's UI.
//
//	              ┌ inPlace     a block at the end of a terminal, and lines above it
//	run ─> Screens┼ plainLines  a line now and then, where the output is no terminal
//	              └ events      one JSON object a line, for scripts
//
// Nobody who speaks waits for who reads: an Outlet writes on a goroutine of its
// own and drops whole lines, which it counts, where nobody reads. A Watched
// output says so once its reader is gone.
//
// What is drawn is a function of a state, a width and a time; only the last
// writer knows of escape sequences.
package view
