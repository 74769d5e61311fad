package data_test

import (
	"context"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/data/feedtest"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

func copySamples(t *testing.T) data.Source {
	t.Helper()
	d, err := data.Open(job.Data{Kind: "copy", Options: data.Copy{Episodes: 50, SeqLen: 6}}, models.Config{Kind: models.Encoder, VocabSize: 10}.Wants(), 5, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.Train()
}

func local(t *testing.T, src data.Source, o data.Order) data.Feed {
	f, err := data.NewLocalFeed(src, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLocalFeedConforms(t *testing.T) { feedtest.Run(t, copySamples(t), local) }

func TestDeliveryConforms(t *testing.T) {
	feedtest.Run(t, copySamples(t), func(t *testing.T, src data.Source, o data.Order) data.Feed {
		road := bulk.NewMemory()
		owner, receiver := road.Join("coordinator"), road.Join("w")
		t.Cleanup(func() { owner.Close(); receiver.Close() })
		if err := owner.OfferFunc(data.DeliveryPrefix, data.Deliver(local(t, src, o), feedtest.Steps, o.Micros())); err != nil {
			t.Fatal(err)
		}
		return data.Delivered{Get: func(ctx context.Context, name string, limit int64) ([]byte, error) {
			return receiver.Get(ctx, "coordinator", name, limit)
		}}
	})
}

// The owner says what it has no micro-batch for; the receiver takes no other
// micro-batch than the one it asked for.
func TestDeliveryRefuses(t *testing.T) {
	src := copySamples(t)
	o := data.Order{Seed: 1, N: src.Len(), Global: 8, Micro: 2}
	deliver := data.Deliver(local(t, src, o), 5, o.Micros())
	for _, name := range []string{"micro/", "micro/1", "micro/1/", "micro//1", "micro/5/0", "micro/0/4", "micro/0/-1", "micro/-1/0", "micro/0/1/2", "micro/x/0", "micro/0/" + strings.Repeat("9", 40)} {
		if _, err := deliver(t.Context(), name); err == nil || !strings.Contains(err.Error(), "no such micro-batch") || len(err.Error()) > 120 {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := data.Delivered{Get: func(ctx context.Context, _ string, _ int64) ([]byte, error) { return deliver(ctx, "micro/4/3") }}
	if _, err := other.Micro(t.Context(), 4, 2); err == nil || !strings.Contains(err.Error(), "sent micro-batch 3 of step 4 for 2 of 4") {
		t.Errorf("another micro-batch: %v", err)
	}
}
