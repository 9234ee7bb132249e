package source

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/shlex"
)

// headerPrefix begins a comment line that holds options.
const headerPrefix = "manifold:"

// HeaderOption is one option of the Dockerfile's header, for example strategy=cross in
//
//	# manifold: strategy=cross linux/arm64:strategy=emulate
type HeaderOption struct {
	// Name is what stands before the equals sign, a platform pattern and a colon included if there is one.
	Name string
	// Value is what follows it, without quotes.
	Value string
	// Line is where it stands, counted from 1.
	Line int
}

// parseHeader reads "# manifold:" lines up to the first line that is neither a comment nor blank. Words are split as a
// shell would, without expanding anything.
func parseHeader(name string, src []byte) ([]HeaderOption, error) {
	var out []HeaderOption
	line := 0
	for raw := range bytes.Lines(bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))) {
		line++
		text := strings.TrimSpace(string(raw))
		if text == "" {
			continue
		}
		comment, ok := strings.CutPrefix(text, "#")
		if !ok {
			break
		}
		options, ok := strings.CutPrefix(strings.TrimSpace(comment), headerPrefix)
		if !ok {
			continue
		}
		words, err := shlex.Split(options)
		if err != nil {
			return nil, &HeaderError{File: name, Line: line, Err: err}
		}
		for _, w := range words {
			key, value, ok := strings.Cut(w, "=")
			if !ok || key == "" {
				return nil, &HeaderError{File: name, Line: line, Err: fmt.Errorf("option %q is not written name=value", w)}
			}
			out = append(out, HeaderOption{Name: key, Value: value, Line: line})
		}
	}
	return out, nil
}

// HeaderError is a line of options in a Dockerfile's header that cannot be read.
type HeaderError struct {
	// File and Line, counted from 1, are where.
	File string
	Line int
	// Err says what is wrong.
	Err error
}

// Error names the place before the problem.
func (e *HeaderError) Error() string {
	return fmt.Sprintf("%s:%d: options after %q: %v", e.File, e.Line, headerPrefix, e.Err)
}

// Unwrap returns the problem.
func (e *HeaderError) Unwrap() error { return e.Err }
