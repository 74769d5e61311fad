package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
)

// descriptionBlob is the name under which a coordinator offers a description
// that is too large for the answer to a join.
const descriptionBlob = "description"

// Description is what a worker has to know of its job before anything else: the
// text of the job file and what the coordinator has found in the data. A
// vocabulary can make it large.
type Description struct {
	Job  string          `json:"job"`
	Data json.RawMessage `json:"data"` // a data.Meta
}

// Describe makes the description of a job on its data, and says where it is too
// large for any worker to join.
func Describe(j *job.Job, meta data.Meta) (*Description, error) {
	b, err := json.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("the data's description: %w", err)
	}
	d := &Description{Job: string(j.YAML()), Data: b}
	if n := len(d.Job) + len(d.Data); n > limits.Description {
		return nil, fmt.Errorf("the job and the description of its data have %d bytes, those of a vocabulary of %d words among them: "+
			"no worker could be told; want at most %d bytes: instructions of fewer different words",
			n, len(meta.Vocab), limits.Description)
	}
	return d, nil
}

// Into puts a description into the answer to a join, or where it is large, what
// it is to be fetched by: then bytes is what has to be on offer under that name.
// It may be called with the same description again.
func (d *Description) Into(w *cluster.Welcome) (bytes []byte) {
	if len(d.Job)+len(d.Data) <= limits.Inline {
		w.Job, w.Data = d.Job, d.Data
		return nil
	}
	b, err := json.Marshal(d)
	if err != nil { // it was marshalled before
		panic(err)
	}
	sum := sha256.Sum256(b)
	w.Description = &cluster.Blob{Name: descriptionBlob, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
	return b
}

// decodeDescription reads a description that was fetched.
func decodeDescription(b []byte) (*Description, error) {
	d := &Description{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(d); err != nil {
		return nil, fmt.Errorf("the coordinator's description of the job: %w", err)
	}
	if d.Job == "" || len(d.Data) == 0 {
		return nil, errors.New("the coordinator's description of the job lacks the job or the data")
	}
	return d, nil
}

// describe completes the answer to a join with what did not fit into it.
func (w *Worker) describe(ctx context.Context, welcome *cluster.Welcome) error {
	b := welcome.Description
	if b == nil {
		return nil
	}
	if b.Size < 1 || b.Size > limits.Description+1<<16 { // of JSON around it
		return fmt.Errorf("the coordinator's description of the job has %d bytes: want at most %d", b.Size, int64(limits.Description))
	}
	buf := make(bulk.Buffer, b.Size)
	if err := w.Blobs.Fetch(ctx, cluster.CoordinatorName, b.Name, b.Size, b.SHA256, buf); err != nil {
		return fmt.Errorf("fetching the description of the job from the coordinator: %w", err)
	}
	d, err := decodeDescription(buf)
	if err != nil {
		return err
	}
	welcome.Job, welcome.Data = d.Job, d.Data
	return nil
}
