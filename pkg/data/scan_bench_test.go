package data

import (
	"context"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/data/internal/tfrecord"
	"github.com/vlaring/vlaring/pkg/job"
)

// manyEpisodes writes an RLDS data set of n episodes of 40 steps in 32 shards,
// with pictures of 128×128, and returns its folder and its bytes.
func manyEpisodes(b *testing.B, n int) (dir string, size int64) {
	dir = b.TempDir()
	const shards, steps = 32, 40
	var pictures [][]byte
	for i := range 64 {
		m := testPicture(128, 128, color.RGBA{uint8(4 * i), 90, 200, 255})
		for k := range m.Pix { // as grainy as a camera's
			m.Pix[k] += byte(k * (k + i) >> 3 & 31)
		}
		pictures = append(pictures, encodeJPEG(b, m))
	}
	var lengths []string
	for s := range shards {
		var file []byte
		episodes := (n - s + shards - 1) / shards
		lengths = append(lengths, fmt.Sprintf("%q", fmt.Sprint(episodes)))
		for e := range episodes {
			var r tfrecord.Builder
			var first []int64
			var action []float32
			var text, camera [][]byte
			for k := range steps {
				first = append(first, int64(b2i(k == 0)))
				for d := range 7 {
					action = append(action, float32((e*k+d)%100)*0.01)
				}
				text = append(text, fmt.Appendf(nil, "put the %d into the box", e%50))
				camera = append(camera, pictures[(e+k)%len(pictures)])
			}
			r.Ints("steps/is_first", first...)
			r.Floats("steps/action", action...)
			r.Strings("steps/language_instruction", text...)
			r.Strings("steps/observation/image_0", camera...)
			r.Strings("steps/observation/wrist")
			file = tfrecord.Append(file, r.Record())
		}
		size += int64(len(file))
		write(b, dir, fmt.Sprintf("tiny-train.tfrecord-%05d-of-%05d", s, shards), file)
	}
	write(b, dir, "features.json", []byte(tinyFeatures))
	write(b, dir, "dataset_info.json", []byte(`{"name": "tiny", "fileFormat": "tfrecord", "version": "1.0.0", "splits": [{"name": "train",
		"filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "numBytes": "1", "shardLengths": [`+strings.Join(lengths, ", ")+`]}]}`))
	filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		return os.Chtimes(p, time.Time{}, time.Now().Add(-time.Hour))
	})
	return dir, size
}

// BenchmarkOpen is what a worker does before it is ready: it reads all files of a
// data set, or knows them from this machine's Scan, or from the coordinator's.
func BenchmarkOpen(b *testing.B) {
	dir, size := manyEpisodes(b, 3000)
	cfg := of(job.Data{Kind: "rlds", Path: dir, Holdout: job.Holdout{Fraction: 0.1}}, "Camera", "image_0")
	open := func(meta *Meta, w Watch) Dataset {
		d, err := OpenContext(context.Background(), cfg, vlaNeeds, 1, ".", meta, w)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	scans := &ScanDir{Dir: b.TempDir(), Least: LeastScan}
	first := open(nil, Watch{Scans: scans})
	defer first.Close()
	meta, scan := first.Meta(), first.Scans()[0].Encode()
	for name, w := range map[string]func() Watch{
		"read":  func() Watch { return Watch{} },
		"known": func() Watch { return Watch{Scans: scans} },
		"told": func() Watch {
			return Watch{Scans: &ScanDir{Dir: b.TempDir(), Least: LeastScan}, Theirs: func(context.Context, string) (*Scan, error) { return DecodeScan(scan) }}
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				open(&meta, w()).Close()
			}
			b.ReportMetric(float64(size)/1e6, "MB-of-files")
			b.ReportMetric(float64(len(scan))/1e6, "MB-of-Scan")
		})
	}
}
