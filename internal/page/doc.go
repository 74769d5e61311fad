// Package page shows runs in a browser: those of a folder, or the one that a
// coordinator trains. It reads what a run leaves in its directory and writes nothing,
// so it works beside a training, after it, and on a copy.
//
//	p, err := page.New(page.Options{Dirs: []string{"runs"}, Listen: page.DefaultListen, Kinds: train.Kinds()})
//	err = p.Run(ctx, func(url string) { fmt.Println(url) })
//
// From the bottom up:
//
//	tail      reads lines that a file has got since, and notices one that begins anew
//	flatten   the numbers of a line, by key
//	curve     a series of any length in a bounded number of buckets
//	story     who took part when, from events.jsonl (pure)
//	reader    one run: its files, read as far as they have grown
//	folder    which runs a folder holds
//	looker    what a checkpoint predicts and where it looks, one question at a time
//	Page      HTTP: guards, JSON, and the files of the page itself
//
// Who may ask: the server listens on this machine alone, unless it is told otherwise;
// then whoever asks must show the key in the URL that it prints. The Host header is
// checked, so that no other web site can have a browser ask (DNS rebinding). Nothing
// is written. Files are opened below the given folders alone (os.Root), and only
// those of a run that the page knows by name.
package page
