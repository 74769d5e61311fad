// Package k8s holds the test of the Kubernetes manifests: mistakes that a cluster
// would notice late, or never. run.sh beside it is the test on a real cluster.
package k8s

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/vlaring/vlaring/internal/cli"
	"github.com/vlaring/vlaring/pkg/train"
)

const base = "../../k8s/base"

// fields are all field names that the manifests use. A misspelt one is not
// among them; one that is new to the manifests is added here from the API's
// reference.
var fields = words(`
	apiVersion kind metadata name namespace labels spec
	automountServiceAccountToken
	completionMode completions parallelism successPolicy succeededCount backoffLimit backoffLimitPerIndex activeDeadlineSeconds minAvailable
	podReplacementPolicy ttlSecondsAfterFinished podFailurePolicy rules action onPodConditions type status onExitCodes
	containerName operator values template
	restartPolicy serviceAccountName enableServiceLinks terminationGracePeriodSeconds tolerations key effect tolerationSeconds
	topologySpreadConstraints maxSkew topologyKey whenUnsatisfiable labelSelector matchLabels
	securityContext runAsNonRoot runAsUser runAsGroup fsGroup fsGroupChangePolicy seccompProfile
	allowPrivilegeEscalation readOnlyRootFilesystem capabilities drop
	containers image command args envFrom configMapRef env value ports containerPort
	startupProbe livenessProbe readinessProbe httpGet path periodSeconds timeoutSeconds failureThreshold
	resources requests limits cpu memory storage volumeMounts mountPath readOnly
	volumes configMap secret secretName defaultMode persistentVolumeClaim claimName accessModes
	selector port targetPort protocol
	podSelector policyTypes ingress egress from to
	images newName newTag configMapGenerator literals files generatorOptions disableNameSuffixHash
	pairs includeSelectors includeTemplates configurations`)

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// object is one YAML document.
type object = map[string]any

// at walks to the value at a dotted path, nil where there is none.
func at(v any, path string) any {
	for _, p := range strings.Split(path, ".") {
		switch n := v.(type) {
		case object:
			v = n[p]
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(n) {
				return nil
			}
			v = n[i]
		default:
			return nil
		}
	}
	return v
}

func list(v any, path string) []any {
	l, _ := at(v, path).([]any)
	return l
}

func text(v any, path string) string {
	s, _ := at(v, path).(string)
	return s
}

// load reads the base as kustomize would: each object that it lists, by
// "Kind/name", and the kustomization itself.
func load(t *testing.T) (map[string]object, object) {
	t.Helper()
	kust := decode(t, "kustomization.yaml")[0]
	all := map[string]object{}
	listed := []string{"kustomization.yaml"}
	for _, r := range list(kust, "resources") {
		listed = append(listed, r.(string))
		for _, o := range decode(t, r.(string)) {
			id := text(o, "kind") + "/" + text(o, "metadata.name")
			if all[id] != nil {
				t.Errorf("%s is there twice", id)
			}
			all[id] = o
		}
	}
	for _, g := range list(kust, "configMapGenerator") {
		for _, f := range list(g, "files") {
			listed = append(listed, f.(string))
		}
	}
	for _, f := range list(kust, "configurations") {
		listed = append(listed, f.(string))
	}
	there, err := filepath.Glob(base + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range there {
		if !slices.Contains(listed, filepath.Base(p)) {
			t.Errorf("%s is in no list of kustomization.yaml", p)
		}
	}
	return all, kust
}

func decode(t *testing.T, file string) (out []object) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(base, file))
	if err != nil {
		t.Fatal(err)
	}
	for d := yaml.NewDecoder(bytes.NewReader(b)); ; {
		var n yaml.Node
		if err := d.Decode(&n); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		spelt(t, file, &n)
		var o object
		if err := n.Decode(&o); err != nil { // a key given twice is an error here
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, o)
	}
}

// spelt checks every key but those of labels, which are free.
func spelt(t *testing.T, file string, n *yaml.Node) {
	t.Helper()
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && !fields[c.Value] && !strings.Contains(c.Value, ".kubernetes.io/") {
			t.Errorf("%s:%d: unknown field %q", file, c.Line, c.Value)
		}
		spelt(t, file, c)
	}
}

// roles are the two Jobs, and the command that each one's container runs.
var roles = map[string]func() *cobra.Command{
	"coordinator": cli.NewCoordinator,
	"worker":      cli.NewWorker,
}

// The flags are ones that the commands have, and every $(NAME) in them is a setting.
func TestCommands(t *testing.T) {
	all, kust := load(t)
	settings := literals(kust, "vlaring-settings")
	for role, command := range roles {
		c := at(all["Job/vlaring-"+role], "spec.template.spec.containers.0")
		if got := list(c, "command"); !reflect.DeepEqual(got, []any{"/" + role}) {
			t.Errorf("%s runs %v", role, got)
		}
		if got := text(c, "envFrom.0.configMapRef.name"); got != "vlaring-settings" {
			t.Errorf("%s takes its settings from %q", role, got)
		}
		var args []string
		for _, a := range list(c, "args") {
			args = append(args, regexp.MustCompile(`\$\((\w+)\)`).ReplaceAllStringFunc(a.(string), func(v string) string {
				name := v[2 : len(v)-1]
				for _, e := range list(c, "env") {
					if text(e, "name") == name {
						return text(e, "value")
					}
				}
				s, ok := settings[name]
				if !ok {
					t.Errorf("%s: %s is no setting", role, v)
				}
				return s
			}))
		}
		cmd, rest, err := command().Find(args)
		if err != nil {
			t.Errorf("%s: %v", role, err)
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		if role == "coordinator" {
			set, err := cmd.Flags().GetStringArray("set")
			if err != nil {
				t.Fatal(err)
			}
			j, err := train.Kinds().Load(filepath.Join(base, "job.yaml"), set)
			if err != nil {
				t.Fatalf("the job: %v", err)
			}
			if j.Name != settings["JOB"] || strconv.Itoa(j.Cluster.Workers) != settings["WORKERS"] {
				t.Errorf("the job is %s with %d workers, the settings say %v", j.Name, j.Cluster.Workers, settings)
			}
		}
	}
	for _, f := range []string{"completions", "parallelism"} {
		if got := fmt.Sprint(at(all["Job/vlaring-worker"], "spec."+f)); got != settings["WORKERS"] {
			t.Errorf("%s is %s, WORKERS is %s", f, got, settings["WORKERS"])
		}
	}
}

func literals(kust object, name string) map[string]string {
	m := map[string]string{}
	for _, g := range list(kust, "configMapGenerator") {
		if text(g, "name") == name {
			for _, l := range list(g, "literals") {
				k, v, _ := strings.Cut(l.(string), "=")
				m[k] = v
			}
		}
	}
	return m
}

// What each exit code of the commands leads to. The codes are those of the
// commands' own help.
func TestExitCodes(t *testing.T) {
	const usage, resume = 2, 3
	for code, meaning := range map[int]string{usage: "wrong usage, or a mistake in the job file", resume: "a checkpoint to resume from is stored"} {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^ +%d .*%s`, code, regexp.QuoteMeta(meaning))).MatchString(cli.NewCoordinator().Long) {
			t.Errorf("exit code %d no longer means %q", code, meaning)
		}
	}
	want := map[string]map[int]string{
		"coordinator": {1: "Count", usage: "FailJob", resume: "Count", 137: "Count"},
		"worker":      {1: "Count", usage: "FailIndex", resume: "Ignore", 137: "Count"},
	}
	all, _ := load(t)
	for role, codes := range want {
		spec := at(all["Job/vlaring-"+role], "spec")
		rules := list(spec, "podFailurePolicy.rules")
		first := rules[0]
		if text(first, "action") != "Ignore" || text(first, "onPodConditions.0.type") != "DisruptionTarget" || text(first, "onPodConditions.0.status") != "True" {
			t.Errorf("%s: a disruption is not what is looked at first, but %v", role, first)
		}
		for code, action := range codes {
			if got := decide(t, role, rules[1:], code); got != action {
				t.Errorf("%s: exit code %d leads to %q, want %s", role, code, got, action)
			}
		}
		// Failure policies want Never; Failed keeps two pods off one rank and one run directory.
		if text(spec, "template.spec.restartPolicy") != "Never" || text(spec, "podReplacementPolicy") != "Failed" {
			t.Errorf("%s: restartPolicy %v, podReplacementPolicy %v", role, at(spec, "template.spec.restartPolicy"), at(spec, "podReplacementPolicy"))
		}
	}
}

// decide is the Job controller's choice for an exit code.
func decide(t *testing.T, role string, rules []any, code int) string {
	for _, r := range rules {
		on := at(r, "onExitCodes")
		if on == nil {
			continue
		}
		if text(on, "containerName") != role {
			t.Errorf("%s: a rule is about container %v", role, at(on, "containerName"))
		}
		if (text(on, "operator") == "In") == slices.Contains(list(on, "values"), any(code)) {
			return text(r, "action")
		}
	}
	return ""
}

// What the Pod Security Standard "restricted" asks for, and what we add.
func TestPodsAreRestricted(t *testing.T) {
	all, _ := load(t)
	if got, _ := at(all["Namespace/vlaring"], "metadata.labels").(object); got["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("the namespace's labels are %v", got)
	}
	if at(all["ServiceAccount/vlaring"], "automountServiceAccountToken") != false {
		t.Error("the service account's token is mounted")
	}
	for role := range roles {
		pod := at(all["Job/vlaring-"+role], "spec.template.spec")
		if n := len(list(pod, "containers")); n != 1 {
			t.Fatalf("%s has %d containers", role, n)
		}
		for path, want := range map[string]any{
			"serviceAccountName":                                    "vlaring",
			"automountServiceAccountToken":                          false,
			"enableServiceLinks":                                    false,
			"securityContext.runAsNonRoot":                          true,
			"securityContext.runAsUser":                             65532,
			"securityContext.seccompProfile.type":                   "RuntimeDefault",
			"containers.0.name":                                     role,
			"containers.0.image":                                    "vlaring",
			"containers.0.securityContext.allowPrivilegeEscalation": false,
			"containers.0.securityContext.readOnlyRootFilesystem":   true,
			"containers.0.securityContext.capabilities.drop":        []any{"ALL"},
		} {
			if got := at(pod, path); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s is %v, want %v", role, path, got, want)
			}
		}
	}
}

// Requests equal limits, which makes the pods Guaranteed. Threads and Go's heap
// follow from them, so nothing else may say how many and how much.
func TestResources(t *testing.T) {
	all, _ := load(t)
	for role := range roles {
		c := at(all["Job/vlaring-"+role], "spec.template.spec.containers.0")
		limits := at(c, "resources.limits")
		if at(limits, "cpu") == nil || at(limits, "memory") == nil || !reflect.DeepEqual(at(c, "resources.requests"), limits) {
			t.Errorf("%s: requests %v, limits %v", role, at(c, "resources.requests"), limits)
		}
		for _, e := range list(c, "env") {
			if n := text(e, "name"); n == "GOMEMLIMIT" || n == "GOMAXPROCS" {
				t.Errorf("%s: %s is set", role, n)
			}
		}
	}
}

// Every name that one object uses for another exists there.
func TestReferences(t *testing.T) {
	all, kust := load(t)
	maps := map[string][]string{}
	for _, g := range list(kust, "configMapGenerator") {
		for _, f := range list(g, "files") {
			maps[text(g, "name")] = append(maps[text(g, "name")], f.(string))
		}
	}
	labels := map[string]any{}
	for role := range roles {
		j := all["Job/vlaring-"+role]
		l := at(j, "spec.template.metadata.labels")
		labels[role] = l
		if want := map[string]any{"app.kubernetes.io/name": "vlaring", "app.kubernetes.io/component": role}; !reflect.DeepEqual(l, want) {
			t.Errorf("%s: pod labels are %v", role, l)
		}
		pod := at(j, "spec.template.spec")
		volumes := map[string]any{}
		for _, v := range list(pod, "volumes") {
			volumes[text(v, "name")] = v
			if n := text(v, "configMap.name"); n != "" && maps[n] == nil {
				t.Errorf("%s: no ConfigMap %q with files", role, n)
			}
			if n := text(v, "persistentVolumeClaim.claimName"); n != "" && all["PersistentVolumeClaim/"+n] == nil {
				t.Errorf("%s: no claim %q", role, n)
			}
		}
		mounts := map[string]any{} // by mount path
		for _, m := range list(pod, "containers.0.volumeMounts") {
			if volumes[text(m, "name")] == nil {
				t.Errorf("%s: no volume %q", role, text(m, "name"))
			}
			mounts[text(m, "mountPath")] = volumes[text(m, "name")]
		}
		if len(mounts) != len(volumes) {
			t.Errorf("%s: %d volumes, %d mounts", role, len(volumes), len(mounts))
		}
		for _, a := range list(pod, "containers.0.args") {
			if dir := "/secrets"; a == "--token-file=/secrets/token" && text(mounts[dir], "secret.secretName") != "vlaring-token" {
				t.Errorf("%s: nothing is mounted at %s", role, dir)
			}
			if a == "/job/job.yaml" && !slices.Contains(maps[text(mounts["/job"], "configMap.name")], "job.yaml") {
				t.Errorf("%s: %s is not mounted", role, a)
			}
			if s, ok := a.(string); ok && strings.HasPrefix(s, "--run-dir=/runs/") && at(mounts["/runs"], "persistentVolumeClaim") == nil {
				t.Errorf("%s: /runs is not on the volume", role)
			}
		}
	}

	svc := all["Service/vlaring-coordinator"]
	if !reflect.DeepEqual(at(svc, "spec.selector"), labels["coordinator"]) {
		t.Errorf("the Service selects %v", at(svc, "spec.selector"))
	}
	c := at(all["Job/vlaring-coordinator"], "spec.template.spec.containers.0")
	if at(c, "ports.0.containerPort") != 4222 || at(svc, "spec.ports.0.port") != 4222 || at(svc, "spec.ports.0.targetPort") != at(c, "ports.0.name") ||
		!slices.Contains(list(c, "args"), any("--listen=0.0.0.0:4222")) {
		t.Error("broker, container port and Service do not agree on the port")
	}
	if !slices.Contains(list(all["Job/vlaring-worker"], "spec.template.spec.containers.0.args"), any("--nats=$(SCHEME)://$(COORDINATOR):4222")) {
		t.Error("the workers do not call the Service")
	}

	in, out := all["NetworkPolicy/coordinator"], all["NetworkPolicy/worker"]
	for what, pair := range map[string][2]any{
		"coordinator's policy":         {at(in, "spec.podSelector.matchLabels"), labels["coordinator"]},
		"who may call the coordinator": {at(in, "spec.ingress.0.from.0.podSelector.matchLabels"), labels["worker"]},
		"workers' policy":              {at(out, "spec.podSelector.matchLabels"), labels["worker"]},
		"whom workers may call":        {at(out, "spec.egress.0.to.0.podSelector.matchLabels"), labels["coordinator"]},
		"port in":                      {at(in, "spec.ingress.0.ports.0.port"), 4222},
		"port out":                     {at(out, "spec.egress.0.ports.0.port"), 4222},
		"default":                      {at(all["NetworkPolicy/default-deny"], "spec"), map[string]any{"podSelector": map[string]any{}, "policyTypes": []any{"Ingress", "Egress"}}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
}
