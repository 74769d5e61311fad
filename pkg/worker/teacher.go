package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
)

// TeacherFile is the blob name of the teacher's weights.
const TeacherFile = "teacher.safetensors"

// maxTeacher bounds the teacher's file, which a worker holds whole.
const maxTeacher = 1 << 36

// teacher fetches the job's teacher from the coordinator; nil where there is none.
func (w *Worker) teacher(ctx context.Context) (*models.Distillation, error) {
	d := w.job.Distill
	if !d.Active() {
		return nil, nil
	}
	b, err := w.Blobs.Get(ctx, cluster.CoordinatorName, TeacherFile, maxTeacher)
	if err != nil {
		return nil, fmt.Errorf("fetching the teacher's weights from the coordinator: %w", err)
	}
	if sum := sha256Of(b); sum != d.SHA256 {
		return nil, fmt.Errorf("the teacher's weights have SHA-256 %s, the job's are %s", sum, d.SHA256)
	}
	f, err := safetensors.Read(bulk.Buffer(b), int64(len(b)), TeacherFile)
	if err != nil {
		return nil, err
	}
	return train.Distill(w.job, w.source.meta, f)
}

// sha256Of is the SHA-256 of b, which may be large: in pieces, between which
// whoever waits for this processor gets it. The assembly that sums cannot be
// interrupted, and heartbeats must go on.
func sha256Of(b []byte) string {
	h := sha256.New()
	for piece := range slices.Chunk(b, 1<<18) {
		h.Write(piece)
		runtime.Gosched()
	}
	return hex.EncodeToString(h.Sum(nil))
}
