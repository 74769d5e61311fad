package natsbus

import (
	"fmt"
	"net/url"
	"strings"
)

// maxName bounds what stands in a subject as one token.
const maxName = 64

// ValidName says whether s can be a token of a subject: 1 to 64 letters,
// digits, '-' and '_'. what says in the error what s names.
func ValidName(what, s string) error {
	ok := len(s) >= 1 && len(s) <= maxName
	for _, c := range s {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	}
	if !ok {
		return fmt.Errorf("%s %.80q: want 1 to %d letters, digits, '-' or '_'", what, s, maxName)
	}
	return nil
}

func ringSubject(job, member string) string { return "vlaring." + job + ".ring." + member }
func blobSubject(job, member string) string { return "vlaring." + job + ".blob." + member }

// withoutSecrets is a list of URLs as it may be printed.
func withoutSecrets(urls string) string {
	var out []string
	for _, s := range strings.Split(urls, ",") {
		s = strings.TrimSpace(s)
		if u, err := url.Parse(s); err == nil {
			u.User = nil
			s = u.String()
		} else if i := strings.LastIndexByte(s, '@'); i >= 0 {
			s = s[i+1:]
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}
