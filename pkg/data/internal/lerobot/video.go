package lerobot

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Clip is where the frames of an episode lie: in which video, and from which of
// its seconds on.
type Clip struct {
	Path string // below the data set
	From float64
}

// Clips are the clips of a camera whose pictures are video, by number of the episode.
// Their videos need not be there.
//
// Up to 2.1 a video is one episode. Since 3.0 it has many, and the list of episodes
// says which; numbers of videos and of tables have nothing to do with each other.
func (s *Set) Clips(camera string) (map[int64]Clip, error) {
	if s.Info.Video == "" {
		return nil, fmt.Errorf("%s has no video_path, and %s is video", filepath.Join(s.Dir, InfoFile), camera)
	}
	clips := make(map[int64]Clip, len(s.Episodes))
	place := func(episode int64, from float64, values map[string]any) error {
		values["video_key"] = camera
		path, err := expand(s.Info.Video, values)
		if err != nil {
			return fmt.Errorf("%s: video_path: %w", filepath.Join(s.Dir, InfoFile), err)
		}
		if strings.ContainsAny(path, "\n\r\x00") {
			return fmt.Errorf("%s: video_path: %q is no path", filepath.Join(s.Dir, InfoFile), path)
		}
		clips[episode] = Clip{path, from}
		return nil
	}
	if !s.Info.v3() {
		size := max(s.Info.ChunkSize, 1)
		for _, e := range s.Episodes {
			if err := place(e.Index, 0, map[string]any{"episode_chunk": int(e.Index) / size, "episode_index": int(e.Index)}); err != nil {
				return nil, err
			}
		}
		return clips, nil
	}
	err := s.episodeTables(func(t *Table) error {
		episode, err := t.Ints("episode_index")
		if err != nil {
			return err
		}
		column := "videos/" + camera + "/"
		if !t.Has(column + "from_timestamp") {
			return fmt.Errorf("%s: it does not say where the videos of %s are (no column %sfrom_timestamp); get it and %s from one place", t.path, camera, column, InfoFile)
		}
		chunk, err := t.Ints(column + "chunk_index")
		if err != nil {
			return err
		}
		file, err := t.Ints(column + "file_index")
		if err != nil {
			return err
		}
		from, err := t.Doubles(column + "from_timestamp")
		if err != nil {
			return err
		}
		for i, e := range episode {
			if err := place(e, from[i], map[string]any{"chunk_index": int(chunk[i]), "file_index": int(file[i])}); err != nil {
				return err
			}
		}
		return nil
	})
	return clips, err
}
