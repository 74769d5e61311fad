package tensorboard

import (
	"math"
	"time"
)

// Value is what an event says under a tag.
type Value struct {
	tag  string
	body message // of Summary.Value, the tag included
}

// Fields of the messages; see tensorflow/core/util/event.proto and framework/summary.proto.
const (
	eventTime, eventStep, eventVersion, eventSummary, eventSession = 1, 2, 3, 5, 7
	summaryValue                                                   = 1
	valueTag, valueSimple, valueImage, valueHisto                  = 1, 2, 4, 5
	valueTensor, valueMetadata                                     = 8, 9
	metadataPlugin                                                 = 1
	pluginName                                                     = 1
	imageHeight, imageWidth, imageColours, imagePNG                = 1, 2, 3, 4
	histoMin, histoMax, histoNum, histoSum, histoSquares           = 1, 2, 3, 4, 5
	histoLimits, histoCounts                                       = 6, 7
	tensorType, tensorStrings                                      = 1, 8
	typeString                                                     = 7
	sessionStatus, sessionStart                                    = 1, 1
)

func named(tag string) Value { return Value{tag, message(nil).text(valueTag, tag)} }

// Scalar is a number. The format has it as float32, of which NaN and infinities are
// drawn as gaps.
func Scalar(tag string, x float64) Value {
	v := named(tag)
	v.body = v.body.float(valueSimple, float32(x))
	return v
}

// Text is Markdown.
func Text(tag, markdown string) Value {
	v := named(tag)
	plugin := message(nil).text(pluginName, "text")
	v.body = v.body.bytes(valueTensor, message(nil).uint(tensorType, typeString).text(tensorStrings, markdown))
	v.body = v.body.bytes(valueMetadata, message(nil).bytes(metadataPlugin, plugin))
	return v
}

// Image is a PNG file of so many pixels.
func Image(tag string, width, height int, png []byte) Value {
	v := named(tag)
	const rgba = 4
	v.body = v.body.bytes(valueImage, message(nil).uint(imageHeight, uint64(height)).uint(imageWidth, uint64(width)).uint(imageColours, rgba).bytes(imagePNG, png))
	return v
}

// Histogram is how the finite ones of some numbers are distributed: in equal buckets
// from the least to the greatest.
func Histogram(tag string, x []float32) Value {
	const buckets = 30 // as many as TensorBoard draws
	lo, hi, sum, squares, n := math.Inf(1), math.Inf(-1), 0.0, 0.0, 0
	for _, f := range x {
		if d := float64(f); d-d == 0 {
			lo, hi, sum, squares, n = min(lo, d), max(hi, d), sum+d, squares+d*d, n+1
		}
	}
	if n == 0 {
		lo, hi = 0, 0
	}
	var limits, counts []float64
	if width := (hi - lo) / buckets; width > 0 {
		limits, counts = make([]float64, 1+buckets), make([]float64, 1+buckets)
		for i := range limits {
			limits[i] = lo + float64(i)*width // the first bucket ends where the numbers begin, and is empty
		}
		limits[buckets] = hi
		for _, f := range x {
			if d := float64(f); d-d == 0 {
				counts[1+min(int((d-lo)/width), buckets-1)]++
			}
		}
	} else { // one value alone
		limits, counts = []float64{math.Nextafter(lo, math.Inf(-1)), lo}, []float64{0, float64(n)}
	}
	v := named(tag)
	v.body = v.body.bytes(valueHisto, message(nil).double(histoMin, lo).double(histoMax, hi).double(histoNum, float64(n)).
		double(histoSum, sum).double(histoSquares, squares).doubles(histoLimits, limits).doubles(histoCounts, counts))
	return v
}

// event is the beginning of an event's message.
func event(at time.Time) message {
	return message(nil).double(eventTime, float64(at.UnixMicro())/1e6)
}

func valuesEvent(at time.Time, step uint64, values []Value) message {
	var s message
	for _, v := range values {
		s = s.bytes(summaryValue, v.body)
	}
	return event(at).uint(eventStep, step).bytes(eventSummary, s)
}
