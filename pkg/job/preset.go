package job

// Preset is the sizes that model.preset stands for. The three levels are those
// of the reference text: shallow for reflexes (2–4 layers), middling for tasks
// (6–8), deep for planning (12 or more). Mid is the reference's default model:
// with 10,000 words and 7 actions it has 34,646,023 parameters.
type Preset struct {
	Name      string
	Use       string // one line: what it is for
	ImageSize int
	PatchSize int
	DModel    int
	NHeads    int
	NLayers   int
}

// Presets lists the presets, smallest first. This is the only table of them.
func Presets() []Preset {
	return []Preset{
		{"low", "sensor to action at once: small images, trains in minutes on a laptop's CPU", 64, 8, 128, 4, 4},
		{"mid", "reasoning about a task: the reference's default model", 224, 16, 512, 8, 6},
		{"high", "long instructions and planning: ViT-Base's width and depth", 224, 16, 768, 12, 12},
	}
}

func presetNames() (names []string) {
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}

// apply sets m's sizes, those that m's kind has, to the preset's.
func (p Preset) apply(m *Model) {
	m.DModel, m.NLayers = p.DModel, p.NLayers
	if m.Kind != "lstm" {
		m.NHeads = p.NHeads
	}
	if takesImages(m.Kind) {
		m.ImageSize, m.PatchSize = p.ImageSize, p.PatchSize
	}
}

func findPreset(name string) (Preset, bool) {
	for _, p := range Presets() {
		if p.Name == name {
			return p, true
		}
	}
	return Preset{}, false
}
