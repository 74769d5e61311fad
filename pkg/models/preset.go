package models

// PresetSizes is the sizes that model.preset stands for. The three levels are those
// of the reference text: shallow for reflexes (2–4 layers), middling for tasks
// (6–8), deep for planning (12 or more). Mid is the reference's default model:
// with 10,000 words and 7 actions it has 34,646,023 parameters. The others are
// policies for robots, with a decoder of actions, called by their parameters with
// two cameras, a state, 1,000 words and chunks of 16 actions.
type PresetSizes struct {
	Name      string
	Use       string // one line: what it is for
	ImageSize int
	PatchSize int
	DModel    int
	NHeads    int
	NLayers   int
	Fusion    string // of the kinds that have it, and the preset is then for these alone
}

// Presets lists the presets: the reference text's levels, and then those for robots,
// each smallest first. This is the only table of them.
func Presets() []PresetSizes {
	return []PresetSizes{
		{"low", "sensor to action at once: small images, trains in minutes on a laptop's CPU", 64, 8, 128, 4, 4, ""},
		{"mid", "reasoning about a task: the reference's default model", 224, 16, 512, 8, 6, ""},
		{"high", "long instructions and planning: ViT-Base's width and depth", 224, 16, 768, 12, 12, ""},
		{"robot-5m", "a policy from some fifty episodes of one table, on a CPU", 96, 12, 256, 8, 4, fusionCross},
		{"robot-20m", "a policy for several tasks of one robot", 128, 16, 384, 8, 6, fusionCross},
		{"robot-80m", "a policy for many tasks and thousands of episodes", 128, 16, 704, 11, 8, fusionCross},
	}
}

// fits says whether f has what the preset is made of.
func (p PresetSizes) fits(f family) bool { return p.Fusion == "" || f.uses("fusion") }

// of returns f's options in p's sizes, those that f has.
func (p PresetSizes) of(f family) Config {
	c := f.config()
	c.DModel, c.NLayers = p.DModel, p.NLayers
	if f.uses("n_heads") {
		c.NHeads = p.NHeads
	}
	if f.uses("image_size") {
		c.ImageSize, c.PatchSize = p.ImageSize, p.PatchSize
	}
	if p.Fusion != "" {
		c.Fusion, c.VisionTokens = p.Fusion, TokensPatch
	}
	return c
}
