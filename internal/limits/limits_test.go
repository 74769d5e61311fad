package limits

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The table of docs/formats.md says what this package does.
func TestDocumentedTable(t *testing.T) {
	b, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]int{"Workers": Workers, "Mesh": Mesh, "Name": Name, "Samples": Samples, "Vocabulary": Vocabulary, "JobFile": JobFile,
		"Chunk": Chunk, "Bucket": Bucket, "Window": Window, "Message": Message, "Inline": Inline, "Description": Description, "Sources": Sources,
		"Address": Address, "Rate": Rate, "Connections": Connections, "Asking": Asking, "Strangers": Strangers, "Broker": Broker} {
		if row := fmt.Sprintf("\n| %s | %d | ", name, v); !strings.Contains(string(b), row) {
			t.Errorf("docs/formats.md has no row %q", row[1:])
		}
	}
	if Files(Workers) != Broker {
		t.Errorf("the most members need %d files, the server takes %d connections", Files(Workers), Broker)
	}
}
