package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/natsbus"
	"github.com/vlaring/vlaring/pkg/train"
)

// blobAdapter gives natsbus's bulk transfer the shape that pkg/train wants.
type blobAdapter struct{ *natsbus.Blobs }

var _ train.Blobs = blobAdapter{}

// checkInit reads the job's init file once, so that a bad one is refused
// before any worker starts.
func (r *run) checkInit(model *models.Model) error {
	if r.job.Init.Path == "" || r.start > 0 {
		return nil
	}
	if err := r.firstWeights(model); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return nil
}

// offerState puts the workers' first state on offer: a checkpoint's files, the
// init file, or nothing where the seed decides.
func (r *run) offerState(l *link, from *checkpoint.Found) error {
	files := map[string]string{}
	switch {
	case from != nil:
		files[train.ModelFile] = filepath.Join(from.Dir, train.ModelFile)
		files[train.OptimizerFile] = filepath.Join(from.Dir, train.OptimizerFile)
	case r.initFile != "":
		files[train.ModelFile] = r.initFile
	}
	for _, name := range []string{train.ModelFile, train.OptimizerFile} {
		path, ok := files[name]
		if !ok {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		h := sha256.New()
		size, err := io.Copy(h, f)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		b := cluster.Blob{Name: name, Size: size, SHA256: hex.EncodeToString(h.Sum(nil))}
		if err := l.blobs.Offer(b.Name, b.Size, b.SHA256, f); err != nil {
			return err
		}
		r.state = append(r.state, b)
	}
	return nil
}

// serveMicro answers workers that do not hold the data: the samples of one
// micro-batch by the name micro/<step>/<m>.
func (r *run) serveMicro() (func(ctx context.Context, name string) ([]byte, error), error) {
	feed, err := data.NewLocalFeed(r.dataset.Train(), train.Order(r.job, r.meta))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, name string) ([]byte, error) {
		parts := strings.Split(strings.TrimPrefix(name, train.MicroPrefix), "/")
		if len(parts) == 2 {
			step, err1 := strconv.ParseUint(parts[0], 10, 64)
			m, err2 := strconv.Atoi(parts[1])
			if err1 == nil && err2 == nil && m >= 0 && m < r.job.Batch.Global/r.job.Batch.Micro && step < uint64(r.job.Train.Steps) {
				samples, err := feed.Micro(ctx, step, m)
				if err != nil {
					return nil, err
				}
				return data.EncodeSamples(nil, step, m, samples), nil
			}
		}
		return nil, fmt.Errorf("no such micro-batch: %.80q", name)
	}, nil
}
