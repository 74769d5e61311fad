package convert

import (
	"encoding/json"
	"math"
)

// wholeColumns are the columns of whole numbers that every table has.
var wholeColumns = []string{"frame_index", "episode_index", "index", "task_index"}

// pandasIndex makes pandas take the tasks' text as the index, by which LeRobot
// finds it.
const pandasIndex = `{"index_columns": ["__index_level_0__"], "column_indexes": [{"name": null, "field_name": null, "pandas_type": "unicode", "numpy_type": "object", "metadata": {"encoding": "UTF-8"}}], ` +
	`"columns": [{"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": null}, ` +
	`{"name": null, "field_name": "__index_level_0__", "pandas_type": "unicode", "numpy_type": "object", "metadata": null}], "creator": {"library": "vlaring", "version": "1"}, "pandas_version": "2.0.0"}`

// feature is what info.json says of one.
type feature struct {
	DType string   `json:"dtype"`
	Shape []int    `json:"shape"`
	Names []string `json:"names"`
}

// features are all of the data set.
func (l *lerobot) features() map[string]feature {
	out := map[string]feature{"timestamp": {DType: "float32", Shape: []int{1}}}
	for _, name := range wholeColumns {
		out[name] = feature{DType: "int64", Shape: []int{1}}
	}
	for name, p := range l.first.pictures {
		out[name] = feature{"image", []int{p.h, p.w, 3}, []string{"height", "width", "channel"}}
	}
	for name, n := range l.first.numbers {
		dtype := "float32"
		if n.whole != nil {
			dtype = "int64"
		}
		out[name] = feature{dtype, []int{n.len()}, n.names}
	}
	return out
}

func (l *lerobot) info() map[string]any {
	fps := any(l.fps)
	if l.fps == math.Trunc(l.fps) {
		fps = int(l.fps)
	}
	m := map[string]any{
		"codebase_version": "v3.0", "robot_type": nil, "total_episodes": len(l.episodes), "total_frames": l.frames, "total_tasks": len(l.tasks),
		"chunks_size": chunkFiles, "data_files_size_in_mb": maxDataFile >> 20, "video_files_size_in_mb": 200, "fps": fps,
		"splits":    map[string]string{"train": "0:" + itoa(len(l.episodes))},
		"data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "video_path": nil, "features": l.features(),
	}
	if l.robot != "" {
		m["robot_type"] = l.robot
	}
	return m
}

// huggingface is what the tables say of their columns to the library datasets.
func (l *lerobot) huggingface() (string, error) {
	type value struct {
		DType string `json:"dtype"`
		Type  string `json:"_type"`
	}
	all := map[string]any{}
	for name, f := range l.features() {
		switch {
		case f.DType == "image":
			all[name] = map[string]string{"_type": "Image"}
		case f.Shape[0] == 1:
			all[name] = value{f.DType, "Value"}
		default:
			all[name] = map[string]any{"feature": value{f.DType, "Value"}, "length": f.Shape[0], "_type": "List"}
		}
	}
	b, err := json.Marshal(map[string]any{"info": map[string]any{"features": all}})
	return string(b), err
}
