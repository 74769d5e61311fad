package job_test

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
)

func TestAttention(t *testing.T) {
	j, err := kinds.Parse("j.yaml", []byte(onTabletop+"model: {attention: {kind: strided, window: 8, stride: 32}}"), []string{"model.attention.window=16"})
	if err != nil {
		t.Fatal(err)
	}
	if conf(j).Attention != (models.Attention{Kind: "strided", Window: 16, Stride: 32}) {
		t.Errorf("%+v", conf(j).Attention)
	}
	sameAgain(t, j)
	for _, c := range []struct{ text, want string }{
		{"{kind: locl}", `j.yaml:3:27: model.attention.kind: "locl" is unknown; did you mean local?`},
		{"{kind: local}", "j.yaml:3:20: model.attention.window: 0 is too small; want at least 1"},
		{"{kind: strided, window: 4}", "j.yaml:3:20: model.attention.stride: 0 is too small; want at least 1"},
		{"{kind: local, window: 4, stride: 3}", "j.yaml:3:53: model.attention.stride: has no meaning for model.attention.kind local; leave it out"},
		{"{window: 4}", "j.yaml:3:29: model.attention.window: has no meaning for model.attention without a kind; leave it out"},
		{"{windw: 4}", "j.yaml:3:21: model.attention.windw: unknown key; did you mean model.attention.window?"},
	} {
		_, err := kinds.Parse("j.yaml", []byte(onTabletop+"model: {attention: "+c.text+"}"), nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n%v, want\n%s", c.text, err, c.want)
		}
	}
	_, err = kinds.Parse("j.yaml", []byte("name: a\nmodel: {kind: lstm, attention: {kind: full}}\ndata: {kind: copy}"), nil)
	if want := "j.yaml:2:32: model.attention: has no meaning for model.kind lstm; leave it out"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
