package bench

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
)

// What the table assumes of the data; of a robot's, words and what a sample shows.
const (
	presetTokens = 16
	presetVocab  = 10000
	robotVocab   = 1000
	robotState   = 8
)

var robotSees = models.Observation{Cameras: 2, Chunk: 16, State: true}

// PresetRow is what a preset of vla models costs.
type PresetRow struct {
	Preset     string      `json:"preset"`
	Use        string      `json:"use"`
	Layers     int         `json:"n_layers"`
	DModel     int         `json:"d_model"`
	Heads      int         `json:"n_heads"`
	Image      int         `json:"image_size"`
	Patch      int         `json:"patch_size"`
	Parameters int         `json:"parameters"`
	Cost       models.Cost `json:"cost"`
}

// PresetRows are all presets.
type PresetRows []PresetRow

// Presets counts what each preset costs; nothing is timed.
func Presets() (rows PresetRows, err error) {
	for _, p := range models.Presets() {
		j, err := train.Kinds().Parse("preset "+p.Name, fmt.Appendf(nil, "name: preset\nmodel: {preset: %s, kind: vla, vocab_size: %d}\ndata: {kind: tabletop, episodes: 1}\nbatch: {global: 1, micro: 1}\ntrain: {steps: 1}\n", p.Name, presetVocab), nil)
		if err != nil {
			return nil, err
		}
		c := train.ModelConfig(j, data.Meta{}).(models.Config)
		if p.Fusion != "" {
			c.Sees, c.StateDim, c.VocabSize = robotSees, robotState, robotVocab
		}
		m, err := models.New(c, train.HeadOf(j))
		if err != nil {
			return nil, err
		}
		rows = append(rows, PresetRow{p.Name, p.Use, c.NLayers, c.DModel, c.NHeads, c.ImageSize, c.PatchSize, m.Params().Count(), m.Cost(m.Spec(presetTokens))})
		m.Close()
	}
	return rows, nil
}

// Text is the table for people.
func (rows PresetRows) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "PRESET\tLAYERS\tD_MODEL\tHEADS\tIMAGE\tPATCH\tPARAMETERS\tTRAINING GFLOP/SAMPLE\tACTIVATIONS/SAMPLE\tSTATE")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.2f\t%s\t%s\n", r.Preset, r.Layers, r.DModel, r.Heads, r.Image, r.Patch, r.Parameters,
			float64(r.Cost.TrainFLOPs)/1e9, plain.Bytes(r.Cost.ActivationBytes), plain.Bytes(20*int64(r.Parameters)))
	}
	w.Flush()
	fmt.Fprintln(&b)
	for _, r := range rows {
		fmt.Fprintf(&b, "%-9s  %s\n", r.Preset, r.Use)
	}
	fmt.Fprintf(&b, "\nfor %d instruction tokens and a vocabulary of %d; state is weights, two moments, and the\ntwo gradients of a worker that trains alone; of several each holds one for every group of micro-batches of its share\n"+
		"robot-…: model.fusion cross, two cameras, a state of %d values, chunks of %d actions, a vocabulary of %d\n", presetTokens, presetVocab, robotState, robotSees.Chunk, robotVocab)
	return b.String()
}
