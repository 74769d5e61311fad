// Package frames keeps the frames of videos as pixels, so that any frame is one
// read of a known place. An ffmpeg decodes a video once, front to back, and a
// frame store holds what came of it, shrunk to what a job trains on.
//
//	tool, err := frames.Find()                       // the ffmpeg on the PATH
//	w := frames.NewWriter(file, 64, 64)
//	err = tool.Decode(ctx, video, 2, func(f frames.Frame) error { return w.Add(f.Seconds, shrunk(f)) })
//	err = w.Close(source)
//	…
//	s, err := frames.Open(path)                      // its index, no frame
//	k, off := s.Nearest(12.3)                        // frame k, so many seconds from it
//	rgb, err := files.Frame(s, k)                     // one pread, checked
//
// A store file is whole or is not there: whoever makes one writes it under another
// name first (internal/atomicfile). Its hash is that of the pixels and their
// times, so decoders that differ in a bit make different data.
package frames
