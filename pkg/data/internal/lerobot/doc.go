// Package lerobot reads data sets as LeRobot writes them, in the forms 2.0, 2.1
// and 3.0: what they say of themselves, their tables, the pictures within these,
// and where in which video an episode lies. Videos themselves are not read.
//
//	meta/info.json        Info: features, frames a second, where files lie
//	meta/episodes…        Episode: its length, its instructions, its file
//	meta/tasks…           the instructions, by number
//	data/…parquet         Table: a row a frame, columns by feature; pictures within, encoded
//	videos/…mp4           Clip: where an episode begins in one
//
// A name may have a slash, which is part of it. Numbers of files of tables and of
// videos have nothing to do with each other.
package lerobot
