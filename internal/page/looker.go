package page

import (
	"context"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
)

type looker struct{}

func newLooker(job.Kinds, *data.ScanDir) *looker { return &looker{} }
func (l *looker) close()                         {}
func (l *looker) sample(context.Context, spot, uint64, int) (any, error) {
	return nil, errUnknown
}
