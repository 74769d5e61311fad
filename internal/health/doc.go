// Package health shows how a process does to what watches it from outside: probes
// of a cluster, which end and start processes, and Prometheus, which draws and
// alerts. It listens at one address, by plain HTTP:
//
//	/healthz   200 while the process can go on by itself; 503, with the reason, where only a new one can
//	/readyz    200 while it takes part, or could; 503, with the reason, before
//	/metrics   Prometheus' format
//	/debug/pprof/  Go's profiles, where they are asked for
//
// The same figures go to a collector of OpenTelemetry, by OTLP over HTTP, where a flag
// or the environment names one.
//
// A coordinator's figures are those that its screen shows: Watch is a run.UI that
// stands between a run and the UI, and counts what passes. A worker's are its
// Standing, which is asked for at each scrape. Neither makes training wait.
//
// Metrics have the names and units of Prometheus' conventions, and labels of which
// there are a handful of values each: none has a worker's name, a step or an
// address. docs/operations.md lists them; TestMetricsAreDocumented holds both
// together.
package health
