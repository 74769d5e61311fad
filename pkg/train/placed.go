package train

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vlaring/vlaring/pkg/data"
)

// Placed puts before an error about a key of a job (a *data.KeyError) where the key stands
// in the job file at path with its --set options. The key itself is put there only where
// the error does not name it. Other errors come back as they are.
func Placed(err error, path string, set []string) error {
	var at *data.KeyError
	if !errors.As(err, &at) {
		return err
	}
	where := Kinds().Where(path, set, at.Key)
	// Most errors of data name the key themselves, behind the kind of data and the file that
	// it does not fit, and an option names it a second time.
	if strings.Contains(err.Error(), at.Key) {
		where.Key = ""
	}
	return fmt.Errorf("%s%w", where, err)
}
