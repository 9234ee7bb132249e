//go:build !unix

package accel

import (
	"errors"
	"os"
)

// Nothing is accelerated on other systems, whose clients only know of it.

func fileOf(string) string { return "" }

func isOwn(string) bool { return false }

func lock(*os.File) error { return errors.ErrUnsupported }
