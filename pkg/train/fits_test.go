package train

import (
	"testing"
)

// What is frozen has neither gradient nor moments in memory, and none of its
// activations is kept; an average is of all parameters, and so all slots are.
func TestNeedOfFrozen(t *testing.T) {
	need := func(set ...string) Need {
		t.Helper()
		j, err := Kinds().Parse("tiny.yaml", []byte(tinyJob), append(set, "model.dropout=0"))
		if err != nil {
			t.Fatal(err)
		}
		d, err := OpenData(j, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		n, err := NeedOf(j, d.Meta())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	frozen := `train.freeze=["vision_encoder.*", "language_encoder.*"]`
	all, less := need(), need(frozen)
	x := trainJob(t, 1, nil, frozen, "model.dropout=0")
	rest := int64(4 * trainedValues(x))
	still := int64(4*x.t.params.Count()) - rest
	if less.Weights != all.Weights || less.Worker >= all.Worker-3*still || less.Worker < less.Weights+3*rest {
		t.Errorf("%+v with %d bytes trained and %d frozen, %+v with all of them trained", less, rest, still, all)
	}
	if with := need(frozen, "optimizer.ema=true"); with.Worker < less.Worker+2*still {
		t.Errorf("%+v with an average, %+v without", with, less)
	}
}
