// Command app says what it was compiled for.
package main

import (
	"fmt"
	"runtime"
)

func main() { fmt.Println("app 1.0", runtime.GOOS+"/"+runtime.GOARCH) }
