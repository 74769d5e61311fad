package health

import (
	"maps"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
)

// message has all figures as OpenTelemetry's data model has them: counters as sums that
// only grow and count from began on, gauges as they are, histograms with the count of each
// bucket alone, and no unit, which the names end in. Names and labels are Prometheus'.
func message(about map[string]string, families []*dto.MetricFamily, began, now time.Time) *metrics.MetricsData {
	var out []*metrics.Metric
	from, at := uint64(began.UnixNano()), uint64(now.UnixNano())
	for _, f := range families {
		m := &metrics.Metric{Name: f.GetName(), Description: f.GetHelp()}
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			s := &metrics.Sum{AggregationTemporality: metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE, IsMonotonic: true}
			for _, x := range f.GetMetric() {
				s.DataPoints = append(s.DataPoints, number(x, x.GetCounter().GetValue(), from, at))
			}
			m.Data = &metrics.Metric_Sum{Sum: s}
		case dto.MetricType_HISTOGRAM:
			h := &metrics.Histogram{AggregationTemporality: metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE}
			for _, x := range f.GetMetric() {
				h.DataPoints = append(h.DataPoints, histogram(x, from, at))
			}
			m.Data = &metrics.Metric_Histogram{Histogram: h}
		case dto.MetricType_SUMMARY:
			s := &metrics.Summary{}
			for _, x := range f.GetMetric() {
				p := &metrics.SummaryDataPoint{Attributes: labels(x), StartTimeUnixNano: from, TimeUnixNano: at, Count: x.GetSummary().GetSampleCount(), Sum: x.GetSummary().GetSampleSum()}
				for _, q := range x.GetSummary().GetQuantile() {
					p.QuantileValues = append(p.QuantileValues, &metrics.SummaryDataPoint_ValueAtQuantile{Quantile: q.GetQuantile(), Value: q.GetValue()})
				}
				s.DataPoints = append(s.DataPoints, p)
			}
			m.Data = &metrics.Metric_Summary{Summary: s}
		default:
			g := &metrics.Gauge{}
			for _, x := range f.GetMetric() {
				v := x.GetGauge().GetValue()
				if x.Untyped != nil {
					v = x.GetUntyped().GetValue()
				}
				g.DataPoints = append(g.DataPoints, number(x, v, 0, at))
			}
			m.Data = &metrics.Metric_Gauge{Gauge: g}
		}
		out = append(out, m)
	}
	r := &resource.Resource{}
	for _, k := range slices.Sorted(maps.Keys(about)) {
		r.Attributes = append(r.Attributes, attribute(k, about[k]))
	}
	scope := &common.InstrumentationScope{Name: "github.com/vlaring/vlaring", Version: about["service.version"]}
	return &metrics.MetricsData{ResourceMetrics: []*metrics.ResourceMetrics{{Resource: r, ScopeMetrics: []*metrics.ScopeMetrics{{Scope: scope, Metrics: out}}}}}
}

func number(x *dto.Metric, v float64, from, at uint64) *metrics.NumberDataPoint {
	return &metrics.NumberDataPoint{Attributes: labels(x), StartTimeUnixNano: from, TimeUnixNano: at, Value: &metrics.NumberDataPoint_AsDouble{AsDouble: v}}
}

// histogram is one whose buckets are Prometheus', each of which counts those before it too.
func histogram(x *dto.Metric, from, at uint64) *metrics.HistogramDataPoint {
	h := x.GetHistogram()
	sum := h.GetSampleSum()
	p := &metrics.HistogramDataPoint{Attributes: labels(x), StartTimeUnixNano: from, TimeUnixNano: at, Count: h.GetSampleCount(), Sum: &sum}
	var before uint64
	for _, b := range h.GetBucket() {
		if math.IsInf(b.GetUpperBound(), 1) {
			continue // all that are beyond the last bound
		}
		p.ExplicitBounds = append(p.ExplicitBounds, b.GetUpperBound())
		p.BucketCounts = append(p.BucketCounts, b.GetCumulativeCount()-before)
		before = b.GetCumulativeCount()
	}
	p.BucketCounts = append(p.BucketCounts, p.Count-before)
	return p
}

func labels(x *dto.Metric) (l []*common.KeyValue) {
	for _, p := range x.GetLabel() {
		l = append(l, attribute(p.GetName(), p.GetValue()))
	}
	return l
}

func attribute(k, v string) *common.KeyValue {
	return &common.KeyValue{Key: k, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v}}}
}
