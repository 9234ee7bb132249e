package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientremotecommand "k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// server keeps the pods.
type server struct {
	logs string

	mu   sync.Mutex
	pods map[string]*pod
}

// pod is a process tree. Its first process has number 1 in its own namespace, and takes all others with it.
type pod struct {
	cmd  *exec.Cmd
	init int // the first process, as this machine numbers it
	done chan struct{}

	mu sync.Mutex
	o  *corev1.Pod
}

func (s *server) all() []*pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*pod
	for _, p := range s.pods {
		out = append(out, p)
	}
	return out
}

func (s *server) find(namespace, name string) *pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods[namespace+"/"+name]
}

// object is the pod as it is now.
func (p *pod) object() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.o.DeepCopy()
}

// deleted notes that the pod is to end.
func (p *pod) deleted() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := metav1.Now()
	p.o.DeletionTimestamp = &now
	return p.o.DeepCopy()
}

// change writes down what has become of the pod.
func (p *pod) change(phase corev1.PodPhase, ready corev1.ConditionStatus, state corev1.ContainerState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.o.Status.Phase = phase
	p.o.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	p.o.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: p.o.Spec.Containers[0].Name, Ready: ready == corev1.ConditionTrue, State: state}}
}

// start starts a pod's only container: with a /run and a /proc of its own, else the machine's files and network.
func (s *server) start(o *corev1.Pod) (*pod, error) {
	if len(o.Spec.Containers) != 1 {
		return nil, errors.New("a pod has one container here")
	}
	o.TypeMeta = metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}
	o.UID, o.CreationTimestamp, o.Spec.NodeName = types.UID("uid-"+o.Name), metav1.Now(), "here"
	c := &o.Spec.Containers[0]
	f, err := os.Create(filepath.Join(s.logs, o.Name+".log"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &pod{o: o, done: make(chan struct{})}
	const own = `mount -t tmpfs tmpfs /run; exec "$@"`
	args := append([]string{"--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-ec", own, "sh"}, append(c.Command, c.Args...)...)
	p.cmd = exec.Command("unshare", args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = f, f, environment(c)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.findInit(); err != nil {
		return nil, err
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	ready := corev1.ConditionTrue
	if c.ReadinessProbe != nil {
		ready = corev1.ConditionFalse
	}
	p.change(corev1.PodRunning, ready, running)
	s.mu.Lock()
	s.pods[o.Namespace+"/"+o.Name] = p
	s.mu.Unlock()
	if ready == corev1.ConditionFalse {
		go p.probe(c.ReadinessProbe.Exec.Command, running)
	}
	go p.wait()
	return p, nil
}

func environment(c *corev1.Container) []string {
	out := os.Environ()
	for _, e := range c.Env {
		out = append(out, e.Name+"="+e.Value)
	}
	return out
}

// findInit waits for the pod's first process.
func (p *pod) findInit() error {
	for range 500 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", p.cmd.Process.Pid))
		if err != nil {
			return err
		}
		if _, err := fmt.Sscan(string(b), &p.init); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("the container does not start")
}

// probe asks whether the pod is ready, until it is.
func (p *pod) probe(command []string, running corev1.ContainerState) {
	for {
		if err := p.ExecInContainer(context.Background(), "", "", "", command, nil, nil, nil, false, nil, 0); err == nil {
			p.change(corev1.PodRunning, corev1.ConditionTrue, running)
			return
		}
		select {
		case <-p.done:
			return
		case <-time.After(time.Second):
		}
	}
}

// wait writes down how the pod ended.
func (p *pod) wait() {
	err := p.cmd.Wait()
	t := &corev1.ContainerStateTerminated{Reason: "Completed"}
	phase := corev1.PodSucceeded
	if err != nil {
		phase, t.Reason, t.ExitCode = corev1.PodFailed, "Error", int32(exitCode(err))
	}
	p.change(phase, corev1.ConditionFalse, corev1.ContainerState{Terminated: t})
	close(p.done)
}

// end lets a pod end by itself for some time, then kills it, and forgets it.
func (s *server) end(p *pod, grace time.Duration) {
	if grace > 0 {
		_ = syscall.Kill(p.init, syscall.SIGTERM)
	}
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = syscall.Kill(p.init, syscall.SIGKILL)
		<-p.done
	}
	o := p.object()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, o.Namespace+"/"+o.Name)
}

// ExecInContainer executes a command in the pod, as a container runtime does for the kubelet.
func (p *pod) ExecInContainer(_ context.Context, _ string, _ types.UID, _ string, cmd []string, in io.Reader, out, errOut io.WriteCloser, _ bool, _ <-chan clientremotecommand.TerminalSize, _ time.Duration) error {
	c := exec.Command("nsenter", append([]string{"--target", fmt.Sprint(p.init), "--pid", "--mount", "--"}, cmd...)...)
	c.Env = environment(&p.o.Spec.Containers[0])
	if out != nil {
		c.Stdout = out
	}
	if errOut != nil {
		c.Stderr = errOut
	}
	if in != nil {
		// As runtimes do, the command's end does not wait for that of its standard input.
		w, err := c.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(w, in)
			_ = w.Close()
		}()
	}
	err := c.Run()
	if _, ok := err.(*exec.ExitError); ok { //nolint:errorlint // of this call
		code := exitCode(err)
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return err
}

// exitCode is a process's as a shell has it: 128 and the signal's number for one that a signal ended.
func exitCode(err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 1
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}
