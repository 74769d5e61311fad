package serve

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/trained"
)

// dimSpec is a part of the actions or of an observation as vla-eval compares it
// between a server and a benchmark, before the first step.
type dimSpec struct {
	Name        string    `json:"name"`
	Dims        int       `json:"dims"` // 0: no numbers
	Format      string    `json:"format"`
	Range       []float64 `json:"range,omitempty"`
	Description string    `json:"description,omitempty"`
}

// vlaFormats are the conventions of vla-eval's specs.py that have one length.
var vlaFormats = map[string]int{
	"delta_xyz": 3, "absolute_xyz": 3,
	"axis_angle": 3, "euler_xyz": 3, "quaternion_xyzw": 4, "rot6d_interleaved": 6,
	"binary_close_positive": 1, "binary_close_negative": 1, "binary_close_01": 1, "continuous_01": 1,
	"base_velocity3_torso1": 4, "base_mode_01": 1,
	"eef_pos3_quat4_gripper1": 8, "eef_pos3_axisangle3_gripper2": 8, "eef_pos3_euler3_gripper2": 8, "rot6d_interleaved_proprio_20d": 20,
}

// specsOf are the specs of a policy's actions and observation. Conventions are what
// the data does not say, so that text does, as PART=FORMAT[:DIMS],…: the actions'
// parts in their order, and state, that of the observation. Where it says nothing
// they are raw, which is no convention.
func specsOf(text string, n names) (actions, observation map[string]any, err error) {
	actions, observation = map[string]any{}, map[string]any{}
	state, given := "raw", text != ""
	all := n.card.Actions.Dimensions
	rest := all
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, format, ok := strings.Cut(part, "=")
		format, length, sized := strings.Cut(format, ":")
		dims, known := vlaFormats[format]
		if sized {
			if dims, err = strconv.Atoi(length); err != nil || dims < 1 {
				return nil, nil, usage.Errorf("--spec %s: %q is no number of values", part, length)
			}
		}
		switch {
		case !ok || name == "" || format == "":
			return nil, nil, usage.Errorf("--spec %s: want PART=FORMAT, e.g. position=delta_xyz,rotation=axis_angle,gripper=binary_close_positive,state=eef_pos3_axisangle3_gripper2", part)
		case name == "state":
			state = format
			continue
		case !known && !sized:
			return nil, nil, usage.Errorf("--spec %s: of how many values? Give %s=%s:DIMS, or one of %s", part, name, format, strings.Join(slices.Sorted(maps.Keys(vlaFormats)), ", "))
		case dims > len(rest):
			return nil, nil, usage.Errorf("--spec %s: its parts have more values than the policy's actions: %d", text, len(all))
		case actions[name] != nil:
			return nil, nil, usage.Errorf("--spec %s: %s is there twice", text, name)
		}
		actions[name] = specOf(name, format, rest[:dims])
		rest = rest[dims:]
	}
	if len(actions) == 0 {
		actions["actions"] = specOf("actions", "raw", all)
	} else if given && len(rest) > 0 {
		return nil, nil, usage.Errorf("--spec %s: its parts have %d values, the policy's actions %d (%s is in none)", text, len(all)-len(rest), len(all), rest[0].Name)
	}
	for _, x := range n.card.Observation {
		switch x.Kind {
		case trained.Picture:
			name := n.shown(x.Name)
			observation[name] = dimSpec{Name: "image", Format: "rgb_hwc_uint8", Description: x.Name}
		case trained.Words:
			observation["language"] = dimSpec{Name: "language", Format: "language"}
		default:
			name, format := n.shown(x.Name), "raw"
			if name == "states" || name == "state" || len(n.card.Features("state")) == 1 && n.card.Features("state")[0] == x.Name {
				name, format = "state", state
			}
			if dims := vlaFormats[format]; dims > 0 && dims != len(x.Dimensions) && len(x.Dimensions) > 0 {
				return nil, nil, usage.Errorf("--spec state=%s has %d values, and the policy's %s", format, dims, x)
			}
			observation[name] = specOf(name, format, x.Dimensions)
		}
	}
	if _, has := observation["state"]; !has && state != "raw" {
		return nil, nil, usage.Errorf("--spec state=%s: the policy sees no state", state)
	}
	return actions, observation, nil
}

// specOf describes some values, with the range that training had.
func specOf(name, format string, of []trained.Dimension) dimSpec {
	s := dimSpec{Name: name, Dims: len(of), Format: format}
	var words []string
	for i, d := range of {
		words = append(words, strings.TrimSpace(d.Name+" "+d.Unit))
		if i == 0 {
			s.Range = []float64{d.Low, d.High}
		}
		s.Range[0], s.Range[1] = min(s.Range[0], d.Low), max(s.Range[1], d.High)
	}
	s.Description = strings.Join(words, ", ")
	return s
}

// helloOf is what a client of vla-eval is told. It is kept among a benchmark's
// results, so that they name the checkpoint.
func helloOf(spec string, n names) (any, error) {
	type hello struct {
		Harness      string         `json:"harness_version"`
		Protocol     int            `json:"protocol_version"`
		Server       string         `json:"model_server"`
		Capabilities map[string]any `json:"capabilities"`
		Params       map[string]any `json:"observation_params,omitempty"` // that benchmarks are made with
		Actions      map[string]any `json:"action_spec"`
		Observation  map[string]any `json:"observation_spec"`
		Card         trained.Card   `json:"card"`
	}
	h := hello{Harness: "vlaring", Protocol: 1, Server: "vlaring", Capabilities: map[string]any{}, Params: map[string]any{}, Card: n.card}
	var err error
	if h.Actions, h.Observation, err = specsOf(spec, n); err != nil {
		return nil, fmt.Errorf("the specs for vla-eval: %w", err)
	}
	pictures := 0
	h.Card.Observation = slices.Clone(h.Card.Observation)
	for i := range h.Card.Observation {
		x := &h.Card.Observation[i]
		x.Vocabulary = nil // long, and of no use there
		switch x.Kind {
		case trained.Picture:
			pictures++
		case trained.Numbers:
			h.Params["send_state"] = true
		}
	}
	if pictures > 1 {
		h.Params["send_wrist_image"] = true
	}
	return h, nil
}
