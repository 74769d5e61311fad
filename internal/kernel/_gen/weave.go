package main

import (
	"slices"

	"github.com/mmcloughlin/avo/ir"
)

// weave writes what the parts write, in turns, each at a pace that lets all end together. Parts are chains of operations that wait for one
// another and share no register that one of them writes: side by side they keep the execution units busy, one behind the other they fill
// the scheduler with instructions that wait.
func (g *gen) weave(parts ...func()) {
	file, _ := g.Result() // so far; its error is looked at in the end
	functions := file.Functions()
	f := functions[len(functions)-1]
	start := len(f.Nodes)
	type thread struct {
		at   float64 // in the part, from 0 to 1
		node ir.Node
	}
	var all []thread
	for _, part := range parts {
		part()
		nodes := f.Nodes[start:]
		for i, n := range nodes {
			all = append(all, thread{(float64(i) + 0.5) / float64(len(nodes)), n})
		}
		f.Nodes = f.Nodes[:start]
	}
	slices.SortStableFunc(all, func(a, b thread) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	for _, t := range all {
		f.Nodes = append(f.Nodes, t.node)
	}
}
