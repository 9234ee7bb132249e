// Command recorder stands in for every command of a script under test: it notes its words, its directory and what it finds of some variables
// in its environment, and exits as the test has it. It is started by other names. It is run very often, and does little else.
package main

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// most is how many commands one run may have; a script that runs more is ended.
const most = 20

// vars are what is noted of the environment.
var vars = [...]string{"V", "W", "X", "ARCH", "EMPTY"}

func main() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		os.Exit(2)
	}
	dir := filepath.Dir(self)
	log, err := syscall.Open(dir+"/log", syscall.O_APPEND|syscall.O_RDWR, 0)
	if err != nil || syscall.Flock(log, syscall.LOCK_EX) != nil {
		os.Exit(2)
	}
	buffer := make([]byte, 1<<16)
	size, err := syscall.Read(log, buffer)
	if err != nil {
		os.Exit(2)
	}
	n := 0
	for _, b := range buffer[:max(size, 0)] {
		if b == '\n' {
			n++
		}
	}
	wd, _ := os.Getwd()
	line := strconv.AppendQuote(nil, wd)
	for _, name := range vars {
		v, ok := os.LookupEnv(name)
		if ok {
			v = "=" + v
		}
		line = strconv.AppendQuote(append(line, ' '), v)
	}
	line = strconv.AppendQuote(append(line, ' '), filepath.Base(os.Args[0]))
	for _, w := range os.Args[1:] {
		line = strconv.AppendQuote(append(line, ' '), w)
	}
	if _, err := syscall.Write(log, append(line, '\n')); err != nil {
		os.Exit(2)
	}
	if n > most {
		_ = syscall.Kill(0, syscall.SIGKILL)
	}
	_, _ = syscall.Write(1, []byte("out\n"))
	outcomes, err := os.ReadFile(dir + "/outcomes")
	if err == nil && len(outcomes) > 0 && outcomes[n%len(outcomes)] == '1' {
		os.Exit(1)
	}
}
