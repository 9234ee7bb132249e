// Command server holds a page made by Node, and prints it.
package main

import (
	_ "embed"
	"fmt"
	"runtime"
)

//go:embed web/dist/index.html
var page string

var version = "dev"

func main() { fmt.Printf("%s %s: %s", version, runtime.GOARCH, page) }
