// The program says what it was built on and what it runs on: the same, though its compiler ran elsewhere.
package main

import (
	"fmt"
	"runtime"
)

var machine = "unknown"

func main() { fmt.Printf("built on %s, runs on %s\n", machine, runtime.GOARCH) }
