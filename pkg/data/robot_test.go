package data

import (
	"context"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data/internal/tfrecord"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// robotForm describes episodes as TFDS 4.9 writes BridgeData V2: four cameras,
// an embedding beside the instruction, rewards, and facts about the episode.
const robotForm = `{"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict", "featuresDict": {"features": {
 "steps": {"pythonClassName": "tensorflow_datasets.core.features.dataset_feature.Dataset", "sequence": {"length": "-1", "feature": {
  "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict", "featuresDict": {"features": {
   "action": {"pythonClassName": "tensorflow_datasets.core.features.tensor_feature.Tensor", "tensor": {"shape": {"dimensions": ["7"]}, "dtype": "float32", "encoding": "none"}, "description": "Robot action."},
   "language_embedding": {"tensor": {"shape": {"dimensions": ["16"]}, "dtype": "float32", "encoding": "none"}},
   "language_instruction": {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}, "description": "Language Instruction."},
   "is_first": {"tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}}, "is_last": {"tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}},
   "is_terminal": {"tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}},
   "discount": {"tensor": {"shape": {}, "dtype": "float32", "encoding": "none"}}, "reward": {"tensor": {"shape": {}, "dtype": "float32", "encoding": "none"}},
   "observation": {"featuresDict": {"features": {
    "state": {"tensor": {"shape": {"dimensions": ["7"]}, "dtype": "float32", "encoding": "none"}},
    "image_0": {"image": {"shape": {"dimensions": ["64", "64", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}},
    "image_1": {"image": {"shape": {"dimensions": ["64", "64", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}},
    "image_2": {"image": {"shape": {"dimensions": ["64", "64", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}},
    "image_3": {"image": {"shape": {"dimensions": ["64", "64", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}}}}}
  }}}}},
 "episode_metadata": {"featuresDict": {"features": {
  "file_path": {"text": {}}, "episode_id": {"tensor": {"shape": {}, "dtype": "int32", "encoding": "none"}}, "has_language": {"tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}},
  "has_image_0": {"tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}}, "has_image_3": {"tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}}}}}
}}}
`

// robotSet writes 25 episodes of 10 steps in that form. The split val is
// described as well, but its file is not there; the last camera was off.
func robotSet(t *testing.T) string {
	dir := t.TempDir()
	says := []string{"take the carrot off the plate", "put the pot in the sink", "turn the lever upright", "put the cup from the counter into the drying rack"}
	var file []byte
	for e := range 25 {
		var b tfrecord.Builder
		const steps = 10
		var first, last []int64
		var action, state, embedding, reward, discount []float32
		var text [][]byte
		var cameras [4][][]byte
		for s := range steps {
			first, last = append(first, int64(b2i(s == 0))), append(last, int64(b2i(s == steps-1)))
			for d := range 7 {
				v := 0.02 * math.Sin(float64(17*e+3*s+5*d)) // a few centimetres, a few hundredths of a radian
				if d == 6 {
					v = float64(b2i(s > 4)) // the gripper
				}
				action, state = append(action, float32(v)), append(state, float32(v*float64(s)))
			}
			embedding = append(embedding, make([]float32, 16)...)
			reward, discount = append(reward, float32(b2i(s == steps-1))), append(discount, 1)
			text = append(text, []byte(says[e%len(says)]))
			for c := range cameras {
				shade := color.RGBA{uint8(60 * c), uint8(10 * e), uint8(20 * s), 255}
				if c == 3 {
					shade = color.RGBA{A: 255}
				}
				m := testPicture(64, 64, shade)
				if c == 3 {
					for i := range m.Pix {
						m.Pix[i] = 255 * byte(b2i(i%4 == 3))
					}
				}
				cameras[c] = append(cameras[c], encodeJPEG(t, m))
			}
		}
		b.Floats("steps/action", action...)
		b.Floats("steps/language_embedding", embedding...)
		b.Strings("steps/language_instruction", text...)
		b.Ints("steps/is_first", first...)
		b.Ints("steps/is_last", last...)
		b.Ints("steps/is_terminal", last...)
		b.Floats("steps/discount", discount...)
		b.Floats("steps/reward", reward...)
		b.Floats("steps/observation/state", state...)
		for c, pictures := range cameras {
			b.Strings(fmt.Sprint("steps/observation/image_", c), pictures...)
		}
		b.Strings("episode_metadata/file_path", []byte("/nfs/raw/out.npy"))
		b.Ints("episode_metadata/episode_id", int64(e))
		b.Ints("episode_metadata/has_language", 1)
		b.Ints("episode_metadata/has_image_0", 1)
		b.Ints("episode_metadata/has_image_3", 0)
		file = tfrecord.Append(file, b.Record())
	}
	write(t, dir, "bridge_dataset-train.tfrecord-00000-of-00001", file)
	write(t, dir, "features.json", []byte(robotForm))
	write(t, dir, "dataset_info.json", []byte(`{"name": "bridge_dataset", "fileFormat": "tfrecord", "version": "1.0.0", "splits": [
 {"name": "train", "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "numBytes": "3474742", "shardLengths": ["25"]},
 {"name": "val", "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "numBytes": "3474742", "shardLengths": ["25"]}]}`))
	return dir
}

// TestRobotEpisodes reads episodes in the form of BridgeData V2: always those that
// the test writes, and the real ones that octo ships as a fixture where
// VLARING_BRIDGE names their folder (.ci/run says so where it does not).
func TestRobotEpisodes(t *testing.T) {
	sets := map[string]string{"written": robotSet(t)}
	if real := os.Getenv("VLARING_BRIDGE"); real != "" {
		sets["real"] = real
	}
	for name, path := range sets {
		t.Run(name, func(t *testing.T) {
			found, err := Recognise(path)
			if err != nil || len(found.Wants.Of(models.Image)) != 4 || !slices.Equal(found.Data.Options.(RLDS).State, []string{"steps/observation/state"}) || !found.Wants.Has(models.State) {
				t.Fatalf("%v, %v", found, err)
			}
			cfg := of(job.Data{Kind: "rlds", Path: path, Holdout: job.Holdout{Fraction: 0.2}}, "Camera", "image_0")
			needs := models.Spec{pictures(3, 64, 64), words(0), acts(0)}
			d, err := Open(cfg, needs, 7, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			m := d.Meta()
			if m.Train != 200 || m.Heldout != 50 || m.Spec.Len(models.Actions, 0) != 7 || m.Spec.Len(models.Instruction, 0) < 5 || !slices.Contains(m.Vocab, "carrot") {
				t.Errorf("%+v", m)
			}
			c, err := NewCollator(m)
			if err != nil {
				t.Fatal(err)
			}
			b := models.NewBatch(1, m.Spec)
			spread := 0.0
			for i := range d.Heldout().Len() {
				s, err := d.Heldout().Sample(i)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Collate([]Sample{s}, b); err != nil {
					t.Fatal(err)
				}
				for d, x := range b.Floats(models.Actions) {
					if x-x != 0 || math.Abs(float64(x)) > 100 {
						t.Errorf("held-out sample %d, dimension %d: %v after scaling", i, d, x)
					}
					spread = max(spread, math.Abs(float64(x)))
				}
			}
			if spread < 0.5 {
				t.Errorf("the largest scaled action is %v: they are not scaled to the order of 1", spread)
			}

			put(&cfg, "Camera", "image_3")
			dark, err := Open(cfg, needs, 7, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer dark.Close()
			sum, err := dark.Survey(context.Background(), Survey{Samples: 16, Threads: 1})
			if err != nil || !strings.Contains(sum.Text(false), "black") {
				t.Errorf("the camera that was off: %v\n%s", err, sum.Text(false))
			}

			put(&cfg, "Split", "val")
			_, err = Open(cfg, needs, 7, "", nil)
			if err == nil || !strings.Contains(err.Error(), "split val: 1 of its 1 shards are not in "+filepath.Clean(path)) || !strings.Contains(err.Error(), "splits whose files are all there: train") {
				t.Error(err)
			}
		})
	}
}
