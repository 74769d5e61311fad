package data

import "testing"

func TestFindingIsOneLine(t *testing.T) {
	for want, f := range map[string]Finding{
		"camera image_3: all 24 pictures are equal; choose another with data.camera": {"equal_pictures", "camera image_3", "all 24 pictures are equal", "choose another with data.camera"},
		"3 of 8 samples have no instruction":                                         {What: "3 of 8 samples have no instruction"},
	} {
		if got := f.String(); got != want {
			t.Errorf("%+v is %q, want %q", f, got, want)
		}
	}
}
