// Package render holds the tests of the manifests that want kustomize and the API's
// own types: a module of its own, so that the product depends on neither.
//
//	cd test/k8s/render && go test ./...            # -update writes testdata/ anew: read the difference
package render

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	trainer "github.com/kubeflow/trainer/v2/pkg/apis/trainer/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/promql/parser"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	scheduling "k8s.io/api/scheduling/v1"
	jobset "sigs.k8s.io/jobset/api/jobset/v1alpha2"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write testdata anew")

const top = "../../../k8s/"

// kinds are all that the manifests may have, by apiVersion and kind.
var kinds = map[string]any{
	"v1 Namespace":                                         core.Namespace{},
	"v1 ServiceAccount":                                    core.ServiceAccount{},
	"v1 ConfigMap":                                         core.ConfigMap{},
	"v1 Service":                                           core.Service{},
	"v1 PersistentVolumeClaim":                             core.PersistentVolumeClaim{},
	"batch/v1 Job":                                         batch.Job{},
	"apps/v1 StatefulSet":                                  apps.StatefulSet{},
	"policy/v1 PodDisruptionBudget":                        policy.PodDisruptionBudget{},
	"networking.k8s.io/v1 NetworkPolicy":                   networking.NetworkPolicy{},
	"scheduling.k8s.io/v1 PriorityClass":                   scheduling.PriorityClass{},
	"jobset.x-k8s.io/v1alpha2 JobSet":                      jobset.JobSet{},
	"cert-manager.io/v1 Issuer":                            certmanager.Issuer{},
	"cert-manager.io/v1 Certificate":                       certmanager.Certificate{},
	"monitoring.coreos.com/v1 PodMonitor":                  monitoring.PodMonitor{},
	"monitoring.coreos.com/v1 PrometheusRule":              monitoring.PrometheusRule{},
	"trainer.kubeflow.org/v1alpha1 ClusterTrainingRuntime": trainer.ClusterTrainingRuntime{},
	"trainer.kubeflow.org/v1alpha1 TrainJob":               trainer.TrainJob{},
}

// object is one that was rendered, as text and as its type.
type object struct {
	name  string // Kind/name
	typed any
	text  []byte
}

// decode reads a document strictly: a field that the type has not is an error.
func decode(t *testing.T, doc []byte) object {
	t.Helper()
	var head struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
	}
	if err := yaml.Unmarshal(doc, &head); err != nil {
		t.Fatal(err)
	}
	zero, ok := kinds[head.APIVersion+" "+head.Kind]
	if !ok {
		t.Fatalf("%s %s is no kind that this test knows", head.APIVersion, head.Kind)
	}
	v := reflect.New(reflect.TypeOf(zero))
	if err := yaml.UnmarshalStrict(doc, v.Interface()); err != nil {
		t.Errorf("%s/%s: %v", head.Kind, head.Metadata.Name, err)
	}
	return object{head.Kind + "/" + head.Metadata.Name, v.Interface(), doc}
}

// render is what kubectl kustomize prints.
func render(t *testing.T, dir string) []object {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	var out []object
	for _, r := range m.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, decode(t, text))
	}
	return out
}

func find[T any](t *testing.T, objects []object, name string) *T {
	t.Helper()
	for _, o := range objects {
		if v, ok := o.typed.(*T); ok && o.name == name {
			return v
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// overlays are all folders that kubectl may apply.
func overlays(t *testing.T) (l []string) {
	t.Helper()
	for _, p := range []string{"base", "jobset", "kubeflow", "overlays/*"} {
		m, err := filepath.Glob(top + p)
		if err != nil || len(m) == 0 {
			t.Fatalf("%s: %v, %v", p, m, err)
		}
		l = append(l, m...)
	}
	return l
}

// Every overlay renders, its fields are the API's, and it is what it was.
func TestGolden(t *testing.T) {
	golden := map[string]bool{}
	for _, dir := range overlays(t) {
		name := strings.ReplaceAll(strings.TrimPrefix(dir, top), "/", "-") + ".yaml"
		golden[name] = true
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			for _, o := range render(t, dir) {
				if o.name != "ConfigMap/vlaring-dashboard" {
					fmt.Fprintf(&b, "---\n%s", o.text)
				}
			}
			same(t, name, b.Bytes())
		})
	}
	there, _ := filepath.Glob("testdata/*.yaml")
	for _, f := range there {
		if !golden[filepath.Base(f)] && filepath.Base(f) != "components.yaml" {
			t.Errorf("%s belongs to no overlay", f)
		}
	}
}

func same(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it was: go test -update, and read the difference", path)
	}
}

// All components go together, over a second job as well.
func TestComponentsTogether(t *testing.T) {
	dirs, err := filepath.Glob(top + "components/*")
	if err != nil || len(dirs) < 7 {
		t.Fatalf("%v, %v", dirs, err)
	}
	tmp, err := os.MkdirTemp(top, ".test") // kustomize wants everything below one root
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	b, err := os.ReadFile(top + "overlays/second/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "../../base", "../base", 1) + "components:\n"
	was := "volumes/0/secret/secretName, value: second-vlaring-token" // of the worker: with components/keys it is another
	if strings.Count(text, was) != 1 {
		t.Fatalf("overlays/second has no %q", was)
	}
	text = strings.Replace(text, was, "volumes/0/secret/secretName, value: second-vlaring-worker-keys", 1)
	for _, d := range dirs {
		text += "  - ../components/" + filepath.Base(d) + "\n"
	}
	if err := os.WriteFile(filepath.Join(tmp, "kustomization.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	objects := render(t, tmp)
	w := find[batch.Job](t, objects, "Job/second-vlaring-worker").Spec.Template.Spec
	c := find[batch.Job](t, objects, "Job/second-vlaring-coordinator").Spec.Template.Spec
	svc := find[core.Service](t, objects, "Service/second-vlaring-coordinator")
	cert := find[certmanager.Certificate](t, objects, "Certificate/second-vlaring-tls").Spec
	authority := find[certmanager.Certificate](t, objects, "Certificate/second-vlaring-authority").Spec
	issuer := find[certmanager.Issuer](t, objects, "Issuer/second-vlaring-authority")
	for what, x := range map[string][2]string{
		"workers call":                {w.Containers[0].Args[0], "--mesh=$(COORDINATOR):6222"},
		"which is":                    {env(t, w, "COORDINATOR"), svc.Name},
		"the certificate is for":      {strings.Join(cert.DNSNames, ","), svc.Name},
		"it is kept in":               {cert.SecretName, "second-vlaring-tls"},
		"workers mount":               {secret(w, "tls"), cert.SecretName},
		"the coordinator mounts":      {secret(c, "tls"), cert.SecretName},
		"it comes from":               {cert.IssuerRef.Name, issuer.Name},
		"which signs with":            {issuer.Spec.CA.SecretName, authority.SecretName},
		"the coordinator's priority":  {c.PriorityClassName, "second-vlaring-coordinator"},
		"workers' priority":           {w.PriorityClassName, "second-vlaring-worker"},
		"the coordinator's image":     {c.Containers[0].Image, "ko://github.com/vlaring/vlaring/cmd/coordinator"},
		"workers keep their state at": {w.Containers[0].VolumeMounts[len(w.Containers[0].VolumeMounts)-1].MountPath, "/tls"},
		"the coordinator's token is":  {secret(c, "token"), "second-vlaring-token"},
		"workers' keys are":           {secret(w, "keys"), "second-vlaring-worker-keys"},
	} {
		if x[0] != x[1] {
			t.Errorf("%s %s, want %s", what, x[0], x[1])
		}
	}
}

func secret(p core.PodSpec, volume string) string {
	for _, v := range p.Volumes {
		if v.Name == volume {
			return v.Secret.SecretName
		}
	}
	return "none"
}

func env(t *testing.T, p core.PodSpec, name string) string {
	t.Helper()
	for _, e := range p.Containers[0].Env {
		if e.Name == name {
			return e.Value
		}
	}
	t.Fatalf("there is no %s in %v", name, p.Containers[0].Env)
	return ""
}

// Two jobs of a namespace share nothing that a worker or a policy goes by.
func TestJobsApart(t *testing.T) {
	first, second := render(t, top+"base"), render(t, top+"overlays/second")
	for _, a := range first {
		for _, b := range second {
			if a.name == b.name {
				t.Errorf("both have %s", a.name)
			}
		}
	}
	for _, o := range second {
		if o.name == "Namespace/vlaring" {
			t.Error("deleting the second job would delete the namespace")
		}
	}
	pods := func(objects []object, prefix, role string) map[string]string {
		return find[batch.Job](t, objects, "Job/"+prefix+"vlaring-"+role).Spec.Template.Labels
	}
	selects := func(sel map[string]string, labels map[string]string) bool {
		for k, v := range sel {
			if labels[k] != v {
				return false
			}
		}
		return len(sel) > 0
	}
	for _, c := range []struct {
		own, other     []object
		prefix, others string
	}{{first, second, "", "second-"}, {second, first, "second-", ""}} {
		mine, theirs := pods(c.own, c.prefix, "coordinator"), pods(c.other, c.others, "coordinator")
		svc := find[core.Service](t, c.own, "Service/"+c.prefix+"vlaring-coordinator")
		pdb := find[policy.PodDisruptionBudget](t, c.own, "PodDisruptionBudget/"+c.prefix+"vlaring-worker")
		in := find[networking.NetworkPolicy](t, c.own, "NetworkPolicy/"+c.prefix+"coordinator")
		out := find[networking.NetworkPolicy](t, c.own, "NetworkPolicy/"+c.prefix+"worker")
		w := find[batch.Job](t, c.own, "Job/"+c.prefix+"vlaring-worker")
		workers, strangers := pods(c.own, c.prefix, "worker"), pods(c.other, c.others, "worker")
		for what, x := range map[string]struct{ sel, own, other map[string]string }{
			"Service":           {svc.Spec.Selector, mine, theirs},
			"PDB":               {pdb.Spec.Selector.MatchLabels, workers, strangers},
			"policy":            {in.Spec.PodSelector.MatchLabels, mine, theirs},
			"who may call":      {in.Spec.Ingress[0].From[0].PodSelector.MatchLabels, workers, strangers},
			"whom workers call": {out.Spec.Egress[0].To[0].PodSelector.MatchLabels, mine, theirs},
			"spread of workers": {w.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels, workers, strangers},
		} {
			if !selects(x.sel, x.own) || selects(x.sel, x.other) {
				t.Errorf("%s%s: %v", c.prefix, what, x.sel)
			}
		}
		if got := env(t, w.Spec.Template.Spec, "COORDINATOR"); got != svc.Name {
			t.Errorf("workers call %s, the Service is %s", got, svc.Name)
		}
	}
}

// The Jobs of JobSet and of the runtime are the base's, but for what each form says
// in its own way.
func TestForms(t *testing.T) {
	base := render(t, top+"base")
	forms := map[string]jobset.JobSetSpec{
		"jobset":   find[jobset.JobSet](t, render(t, top+"jobset"), "JobSet/vlaring").Spec,
		"kubeflow": find[trainer.ClusterTrainingRuntime](t, render(t, top+"kubeflow"), "ClusterTrainingRuntime/vlaring").Spec.Template.Spec,
	}
	for form, spec := range forms {
		for i, role := range []string{"coordinator", "worker"} {
			want := find[batch.Job](t, base, "Job/vlaring-"+role).Spec
			got := spec.ReplicatedJobs[i].Template.Spec
			for _, j := range []*batch.JobSpec{&want, &got} {
				j.CompletionMode, j.Completions, j.Parallelism, j.TTLSecondsAfterFinished, j.ActiveDeadlineSeconds = nil, nil, nil, nil, nil
				j.Template.Spec.TopologySpreadConstraints, j.Template.Labels = nil, nil
				j.Template.Spec.ServiceAccountName = ""
				c := &j.Template.Spec.Containers[0]
				if role == "worker" {
					c.Env, c.Name = nil, "worker"
					for k := range j.PodFailurePolicy.Rules {
						if on := j.PodFailurePolicy.Rules[k].OnExitCodes; on != nil {
							on.ContainerName = nil
						}
					}
				}
			}
			a, _ := yaml.Marshal(want)
			b, _ := yaml.Marshal(got)
			if !bytes.Equal(a, b) {
				t.Errorf("%s: the %s is not the base's:\n%s", form, role, difference(string(a), string(b)))
			}
			if n := len(spec.ReplicatedJobs[i].Name); n > 20 {
				t.Errorf("%s: %s is longer than 20", form, spec.ReplicatedJobs[i].Name)
			}
		}
	}
	node := find[trainer.ClusterTrainingRuntime](t, render(t, top+"kubeflow"), "ClusterTrainingRuntime/vlaring").Spec.Template.Spec.ReplicatedJobs[1]
	if node.Name != "node" || node.Template.Spec.Template.Spec.Containers[0].Name != "node" || node.Template.Labels["trainer.kubeflow.org/trainjob-ancestor-step"] != "trainer" {
		t.Errorf("the runtime's trainer is %s, %v", node.Name, node.Template.Labels)
	}
	b, err := os.ReadFile(top + "kubeflow/trainjob.yaml")
	if err != nil {
		t.Fatal(err)
	}
	decode(t, b)
}

func difference(a, b string) string {
	var out []string
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range x {
		if !slices.Contains(y, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range y {
		if !slices.Contains(x, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

// With keys, a worker's container sees one file, its own key, whatever form the run
// has, and its pod has no token; the coordinator's is the only one that has.
func TestKeysApart(t *testing.T) {
	pods := map[string][2]core.PodSpec{} // coordinator, worker
	for _, dir := range []string{"overlays/tls", "overlays/nats-cluster"} {
		o := render(t, top+dir)
		pods[dir] = [2]core.PodSpec{find[batch.Job](t, o, "Job/vlaring-coordinator").Spec.Template.Spec, find[batch.Job](t, o, "Job/vlaring-worker").Spec.Template.Spec}
	}
	for _, form := range []string{"jobset", "kubeflow"} {
		tmp, err := os.MkdirTemp(top, ".test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(tmp) })
		text := "resources: [../" + form + "]\ncomponents: [../components/keys]\n"
		if err := os.WriteFile(filepath.Join(tmp, "kustomization.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		o, spec := render(t, tmp), jobset.JobSetSpec{}
		if form == "jobset" {
			spec = find[jobset.JobSet](t, o, "JobSet/vlaring").Spec
		} else {
			spec = find[trainer.ClusterTrainingRuntime](t, o, "ClusterTrainingRuntime/vlaring").Spec.Template.Spec
		}
		pods[form] = [2]core.PodSpec{spec.ReplicatedJobs[0].Template.Spec.Template.Spec, spec.ReplicatedJobs[1].Template.Spec.Template.Spec}
	}
	for form, p := range pods {
		var mounts []string
		for _, m := range p[1].Containers[0].VolumeMounts {
			if !strings.HasPrefix(m.MountPath, "/secrets") {
				continue
			}
			mounts = append(mounts, m.Name+" "+m.MountPath+" "+m.SubPathExpr)
		}
		if want := []string{"keys /secrets/key worker-w$(JOB_COMPLETION_INDEX).key"}; !slices.Equal(mounts, want) {
			t.Errorf("%s: a worker sees %q, want %q", form, mounts, want)
		}
		for _, v := range p[1].Volumes {
			if v.Secret != nil && v.Secret.SecretName == "vlaring-token" {
				t.Errorf("%s: a worker's pod has the token", form)
			}
		}
		if !slices.Contains(p[1].Containers[0].Args, "--token-file=/secrets/key") || slices.Contains(p[1].Containers[0].Args, "--token-file=/secrets/token") {
			t.Errorf("%s: a worker's arguments are %q", form, p[1].Containers[0].Args)
		}
		if secret(p[0], "token") != "vlaring-token" || !slices.Contains(p[0].Containers[0].Args, "--token-file=/secrets/token") {
			t.Errorf("%s: the coordinator's token is of %s", form, secret(p[0], "token"))
		}
	}
}

// No image names a registry but the one of examples: who runs it says where images
// come from.
func TestNoRegistries(t *testing.T) {
	var images func(v any, in string)
	images = func(v any, in string) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				if s, ok := x.(string); ok && k == "image" {
					host, _, slash := strings.Cut(s, "/")
					if slash && strings.ContainsAny(host, ".:") && host != "registry.example.com" {
						t.Errorf("%s: image %s names a registry", in, s)
					}
				}
				images(x, in)
			}
		case []any:
			for _, x := range v {
				images(x, in)
			}
		}
	}
	for _, dir := range overlays(t) {
		for _, o := range render(t, dir) {
			var v any
			if err := yaml.Unmarshal(o.text, &v); err != nil {
				t.Fatal(err)
			}
			images(v, dir+" "+o.name)
		}
	}
}

// Probes ask by HTTP, at the port that the command is told, and never knock at one
// that speaks TLS.
func TestProbes(t *testing.T) {
	for _, dir := range overlays(t) {
		for _, o := range render(t, dir) {
			j, ok := o.typed.(*batch.Job)
			if !ok {
				continue
			}
			c := j.Spec.Template.Spec.Containers[0]
			for name, p := range map[string]*core.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
				if p == nil || p.HTTPGet == nil || p.TCPSocket != nil || p.HTTPGet.Port.StrVal != "health" {
					t.Errorf("%s %s: the %s probe is %v", dir, o.name, name, p)
				}
			}
			port := slices.IndexFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == "health" && p.ContainerPort == 8080 })
			if port < 0 || !slices.Contains(c.Args, "--health=0.0.0.0:8080") {
				t.Errorf("%s %s: ports %v, args %v", dir, o.name, c.Ports, c.Args)
			}
			if l, r := c.Resources.Limits, c.Resources.Requests; l.Cpu().IsZero() || l.Memory().IsZero() || !reflect.DeepEqual(l, r) {
				t.Errorf("%s %s: requests %v, limits %v", dir, o.name, r, l)
			}
		}
	}
}

// Alerts and panels are PromQL.
func TestQueries(t *testing.T) {
	p := parser.NewParser(parser.Options{})
	rules := find[monitoring.PrometheusRule](t, render(t, top+"overlays/monitoring"), "PrometheusRule/vlaring")
	n := 0
	for _, g := range rules.Spec.Groups {
		for _, r := range g.Rules {
			n++
			if _, err := p.ParseExpr(r.Expr.String()); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
		}
	}
	b, err := os.ReadFile(top + "components/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := yaml.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	for _, panel := range d.Panels {
		for _, q := range panel.Targets {
			n++
			if _, err := p.ParseExpr(strings.NewReplacer("$namespace", "n", "$run", "r").Replace(q.Expr)); err != nil {
				t.Errorf("%s: %v", panel.Title, err)
			}
		}
	}
	if n < 25 {
		t.Errorf("%d queries were looked at", n)
	}
}
