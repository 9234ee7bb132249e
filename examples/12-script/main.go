// Command app says which machine it was compiled for.
package main

import "runtime"

func main() { println("compiled for", runtime.GOARCH) }
