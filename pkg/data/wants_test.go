package data

import (
	"reflect"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// What tests want of data, and what they find in samples.

func pictures(c, h, w int) models.Feature { return models.Known(models.Images, c, h, w) }

// words are instructions of at most so many tokens; 0: any number.
func words(most int) models.Feature {
	f := models.Known(models.Instruction, 0)
	f.Max = most
	return f
}

// acts are actions of so many dimensions; 0: as many as the data has.
func acts(dim int) models.Feature { return models.Known(models.Actions, dim) }

// wantsOf are the wants of a model, of 3 channels where it does not say.
func wantsOf(c models.Config) models.Spec {
	if c.Channels == 0 {
		c.Channels = 3
	}
	return c.Wants()
}

// copyTask are the wants of a model that names tokens of a vocabulary.
func copyTask(vocab int) models.Spec {
	return wantsOf(models.Config{Kind: models.Encoder, VocabSize: vocab})
}

// pictureOf is the picture of a sample, its first feature.
func pictureOf(s Sample) Value { return s.Values[0] }

// tokensOf are the first tokens of a sample.
func tokensOf(s Sample) []int32 {
	for _, v := range s.Values {
		if v.Ints != nil {
			return v.Ints
		}
	}
	return nil
}

// targetsOf are the labels of a sample, its last feature.
func targetsOf(s Sample) []int32 { return s.Values[len(s.Values)-1].Ints }

// actionOf is the action of a sample, its last feature.
func actionOf(s Sample) []float32 { return s.Values[len(s.Values)-1].Floats }

// of is a data section with its kind's defaults and the options of it that are
// given, each a field's name and its value.
func of(d job.Data, options ...any) job.Data {
	if d.Options == nil {
		d.Options = Defaults(d.Kind)
	}
	for i := 0; i < len(options); i += 2 {
		put(&d, options[i].(string), options[i+1])
	}
	return d
}

// put sets an option.
func put(d *job.Data, field string, v any) {
	c := reflect.New(reflect.TypeOf(d.Options)).Elem()
	c.Set(reflect.ValueOf(d.Options))
	f := c.FieldByName(field)
	if mode, ok := v.(string); ok && f.Type() == reflect.TypeFor[Scaling]() {
		v = Scaling{Mode: mode}
	}
	f.Set(reflect.ValueOf(v).Convert(f.Type()))
	d.Options = c.Interface().(job.Options)
}
