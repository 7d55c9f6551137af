package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"
)

const serveFiles = "../../scripts/serve"

// The files of scripts/serve call serve with flags that it has.
func TestServeFilesHaveItsFlags(t *testing.T) {
	var known []string
	for _, f := range append(serveCommand().Flags, cli.HelpFlag) {
		for _, name := range f.Names() {
			known = append(known, "--"+name)
		}
	}
	for name, least := range map[string]int{"Dockerfile": 2, "kubernetes.yaml": 6, "rag-retrieval.service": 4} {
		b, err := os.ReadFile(filepath.Join(serveFiles, name))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			if code, _, _ := strings.Cut(line, "#"); !strings.Contains(line, "apt-get") && !strings.Contains(line, "setup.sh") && !strings.Contains(line, "COPY") &&
				!strings.Contains(line, "useradd") && !strings.Contains(line, "HEALTHCHECK") {
				for _, flag := range regexp.MustCompile(`(^|[ "])--[a-z][a-z-]*`).FindAllString(code, -1) {
					if n++; !slices.Contains(known, strings.Trim(flag, ` "`)) {
						t.Errorf("%s: serve has no flag%s", name, flag)
					}
				}
			}
		}
		if n < least {
			t.Errorf("%s: %d flags, want at least %d", name, n, least)
		}
	}
}

// kubernetesObject has the parts of an object of kubernetes.yaml that must fit together.
type kubernetesObject struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		Selector struct {
			App         string
			MatchLabels struct{ App string } `yaml:"matchLabels"`
		}
		Ports []struct {
			TargetPort string `yaml:"targetPort"`
		}
		Template struct {
			Metadata struct {
				Labels      struct{ App string }
				Annotations map[string]string
			}
			Spec struct {
				TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
				Containers                    []kubernetesContainer
				Volumes                       []struct {
					Name   string
					Secret struct {
						SecretName string `yaml:"secretName"`
					}
				}
			}
		}
	}
	StringData map[string]string `yaml:"stringData"`
}

type kubernetesContainer struct {
	Args  []string
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Resources      struct{ Limits struct{ CPU string } }
	StartupProbe   kubernetesProbe `yaml:"startupProbe"`
	ReadinessProbe kubernetesProbe `yaml:"readinessProbe"`
	LivenessProbe  kubernetesProbe `yaml:"livenessProbe"`
	VolumeMounts   []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type kubernetesProbe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// arg is the value of a flag.
func (c kubernetesContainer) arg(flag string) string {
	i := slices.Index(c.Args, flag)
	if i < 0 || i+1 == len(c.Args) {
		return ""
	}
	return c.Args[i+1]
}

// The objects of kubernetes.yaml fit together, and leave the server the time that its flags ask for.
func TestKubernetesFile(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(serveFiles, "kubernetes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]kubernetesObject{}
	for d := yaml.NewDecoder(strings.NewReader(string(b))); ; {
		var x kubernetesObject
		if err := d.Decode(&x); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		objects[x.APIVersion+" "+x.Kind] = x
	}
	secret, service, deployment := objects["v1 Secret"], objects["v1 Service"], objects["apps/v1 Deployment"]
	pod := deployment.Spec.Template
	if len(objects) != 3 || len(pod.Spec.Containers) != 1 {
		t.Fatalf("%+v", objects)
	}
	c := pod.Spec.Containers[0]
	delay, err1 := time.ParseDuration(c.arg("--shutdown-delay"))
	drain, err2 := time.ParseDuration(c.arg("--drain-timeout"))
	if grace := time.Duration(pod.Spec.TerminationGracePeriodSeconds) * time.Second; err1 != nil || err2 != nil || grace <= delay+drain {
		t.Errorf("%v are not more than %v and %v", grace, delay, drain)
	}
	if app := deployment.Spec.Selector.MatchLabels.App; app == "" || pod.Metadata.Labels.App != app || service.Spec.Selector.App != app {
		t.Errorf("labels: %+v", deployment.Spec.Selector)
	}
	_, port, _ := strings.Cut(c.arg("--listen"), ":")
	if len(c.Ports) != 1 || c.Ports[0].Name != "http" || service.Spec.Ports[0].TargetPort != "http" || pod.Metadata.Annotations["prometheus.io/port"] != port ||
		pod.Metadata.Annotations["prometheus.io/path"] != "/metrics" {
		t.Errorf("ports: %+v %+v", c.Ports, service.Spec.Ports)
	}
	for _, x := range []struct {
		probe kubernetesProbe
		path  string
	}{{c.StartupProbe, "/ready"}, {c.ReadinessProbe, "/ready"}, {c.LivenessProbe, "/health"}} {
		if x.probe.HTTPGet.Path != x.path || x.probe.HTTPGet.Port != "http" {
			t.Errorf("a probe of %s: %+v", x.path, x.probe)
		}
	}
	if c.arg("--threads") != c.Resources.Limits.CPU {
		t.Errorf("%s threads for %s CPUs", c.arg("--threads"), c.Resources.Limits.CPU)
	}
	var mounted []string
	for _, m := range c.VolumeMounts {
		for _, v := range pod.Spec.Volumes {
			if v.Name == m.Name && v.Secret.SecretName == secret.Metadata.Name {
				for key := range secret.StringData {
					mounted = append(mounted, m.MountPath+"/"+key)
				}
			}
		}
	}
	if !slices.Contains(mounted, c.arg("--api-key-file")) {
		t.Errorf("--api-key-file %s is none of %v", c.arg("--api-key-file"), mounted)
	}
}
