package run

import (
	"fmt"

	"github.com/vlaring/vlaring/pkg/features"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// keeping is where what frozen encoders make in measurements is kept.
func (b *beginning) keeping() features.Options {
	return features.Of(b.data.meta, b.data.set.Beside(), b.opt.CacheDir, b.job.Train.CacheBytes(), false)
}

// sayFrozen says what of the model is frozen, and what is kept of what that makes.
func (b *beginning) sayFrozen(model *models.Model) {
	for _, p := range model.Parts(b.data.meta.Spec) {
		text, kept := frozenText(p, b.keeping(), b.data.meta.Augment.Changes())
		b.say("frozen", text, map[string]any{"part": p.Name, "steps": p.Steps, "of": p.Of, "kept": kept})
	}
}

// frozenText says what becomes of what a frozen part makes, of pictures that are changed
// at random or not, and whether it is kept.
func frozenText(p models.Part, o features.Options, changed bool) (text string, kept bool) {
	inputs := "instruction"
	if p.Pictures {
		inputs = "picture"
	}
	is, it := fmt.Sprintf("%s is frozen", p), "it runs"
	if !p.Whole() {
		is, it = fmt.Sprintf("%s are frozen", p), "they run"
	}
	switch {
	case p.Drops:
		return fmt.Sprintf("%s, with dropout inside: %s for each sample of each step; with model.dropout 0, once for each distinct %s", is, it, inputs), false
	case o.Bytes == 0:
		return fmt.Sprintf("%s: %s for each sample of each step, since train.cache is 0", is, it), false
	case p.Pictures && changed:
		return fmt.Sprintf("%s: %s for each picture of each step, since data.augment changes them at random", is, it), false
	}
	text = fmt.Sprintf("%s: %s once for each distinct %s, and the results are kept, up to train.cache %v", is, it, inputs, job.Bytes(o.Bytes))
	if n, all := o.Fits(p); p.Pictures && n < o.Frames {
		text += fmt.Sprintf(", which is room for %d of %d pictures; --set train.cache=%v has room for all", n, o.Frames, job.Bytes((all+1<<20-1)>>20<<20))
	}
	return text, true
}
