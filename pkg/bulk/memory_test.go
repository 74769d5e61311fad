package bulk_test

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/bulk/bulktest"
)

func TestMemoryConforms(t *testing.T) {
	bulktest.Run(t, func(*testing.T) bulktest.Road {
		m := bulk.NewMemory()
		return bulktest.Road{
			Join:      func(_ *testing.T, member string) bulktest.End { return m.Join(member) },
			Interrupt: func(*testing.T) { m.Interrupt(20) },
		}
	})
}
