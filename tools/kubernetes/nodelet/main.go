// Command nodelet is the smallest part of Kubernetes that a real kubectl can work with: an API server for pods, which are process trees of this
// machine in namespaces of their own, without images. Commands are executed in them by the kubelet's own streaming package, so the protocols, and the
// ways in which a connection ends, are the real ones.
//
// It serves plain HTTP and asks nobody who they are, for tests alone. Pods can be created, read, listed by label and deleted; a readiness probe of kind
// exec is asked each second.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	remotecommandconsts "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/kubelet/pkg/cri/streaming/remotecommand"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	logs := flag.String("logs", ".", "folder for what the pods print")
	flag.Parse()
	s := &server{logs: *logs, pods: map[string]*pod{}}
	log.Fatal(http.ListenAndServe(*addr, s.handler()))
}

// handler serves the part of the API that kubectl asks for: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	say := func(pattern string, v any) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, v) })
	}
	say("/readyz", "ok")
	say("/version", map[string]string{"major": "1", "minor": "34", "gitVersion": "v1.34.4"})
	say("/api", metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
	say("/apis", metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}})
	say("/api/v1", metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: "v1",
		APIResources: []metav1.APIResource{{
			Name: "pods", SingularName: "pod", Namespaced: true, Kind: "Pod", ShortNames: []string{"po"}, Verbs: metav1.Verbs{"create", "delete", "get", "list"},
		}},
	})
	const pods = "/api/v1/namespaces/{namespace}/pods"
	mux.HandleFunc("GET "+pods, s.list)
	mux.HandleFunc("POST "+pods, s.create)
	mux.HandleFunc("GET "+pods+"/{name}", s.one(func(w http.ResponseWriter, _ *http.Request, p *pod) { reply(w, http.StatusOK, p.object()) }))
	mux.HandleFunc("DELETE "+pods+"/{name}", s.one(s.remove))
	mux.HandleFunc(pods+"/{name}/exec", s.one(s.exec))
	return mux
}

var podResource = schema.GroupResource{Resource: "pods"}

// one finds the pod that a request is for.
func (s *server) one(do func(http.ResponseWriter, *http.Request, *pod)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := s.find(r.PathValue("namespace"), r.PathValue("name"))
		if p == nil {
			fail(w, apierrors.NewNotFound(podResource, r.PathValue("name")))
			return
		}
		do(w, r, p)
	}
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	out := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, p := range s.all() {
		if o := p.object(); o.Namespace == r.PathValue("namespace") && selector.Matches(labels.Set(o.Labels)) {
			out.Items = append(out.Items, *o)
		}
	}
	reply(w, http.StatusOK, out)
}

func (s *server) create(w http.ResponseWriter, r *http.Request) {
	var o corev1.Pod
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	o.Namespace = r.PathValue("namespace")
	if s.find(o.Namespace, o.Name) != nil {
		fail(w, apierrors.NewAlreadyExists(podResource, o.Name))
		return
	}
	p, err := s.start(&o)
	if err != nil {
		fail(w, apierrors.NewInternalError(err))
		return
	}
	reply(w, http.StatusCreated, p.object())
}

func (s *server) remove(w http.ResponseWriter, r *http.Request, p *pod) {
	const usualGrace = 30 * time.Second // Kubernetes' terminationGracePeriodSeconds
	grace := usualGrace
	if seconds := p.object().Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	var opt metav1.DeleteOptions
	if err := json.NewDecoder(r.Body).Decode(&opt); err == nil && opt.GracePeriodSeconds != nil {
		grace = time.Duration(*opt.GracePeriodSeconds) * time.Second
	}
	go s.end(p, grace)
	reply(w, http.StatusOK, p.deleted())
}

// exec executes a command in a pod. Both of kubectl's protocols are served, SPDY and WebSocket.
func (s *server) exec(w http.ResponseWriter, r *http.Request, p *pod) {
	const (
		idle   = 4 * time.Hour // the kubelet's own
		create = 30 * time.Second
	)
	q := r.URL.Query()
	on := func(name string) bool {
		v, err := strconv.ParseBool(q.Get(name))
		return err == nil && v
	}
	opts := &remotecommand.Options{Stdin: on("stdin"), Stdout: on("stdout"), Stderr: on("stderr"), TTY: on("tty")}
	remotecommand.ServeExec(w, r, p, p.object().Name, p.object().UID, q.Get("container"), q["command"], opts, idle, create, remotecommandconsts.SupportedStreamingProtocols)
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // who asked has gone
}

// fail answers with what went wrong, as an API server does.
func fail(w http.ResponseWriter, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(fmt.Errorf("%w", err))
	}
	s := status.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	reply(w, int(s.Code), s)
}
