// Package ocijson reads the JSON documents of images so that they mean one thing to everyone. Whoever reads a document with two
// values for one name may take the first or the last, and so run another image than the one that was checked.
package ocijson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// maxDepth bounds objects and lists in one another. The documents of the OCI have 5.
	maxDepth = 64
	// foldedDepth is how deep names must differ in more than case: encoding/json takes Digest for digest, others do not. Below are
	// names that users make up, as those of labels and volumes.
	foldedDepth = 2
)

// Unmarshal is json.Unmarshal for documents without ambiguity: a name that stands twice in one object, more than one value, and nesting deeper
// than 64 are errors.
func Unmarshal(dt []byte, into any) error {
	if err := check(dt); err != nil {
		return err
	}
	return json.Unmarshal(dt, into)
}

// Manifest is Unmarshal for a manifest or index. A document that is both, or that says it is of another media type than its descriptor, is an error
// (CVE-2021-41190). An empty media type means that none is known.
func Manifest(dt []byte, mediaType string, into any) error {
	var both struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Config    json.RawMessage `json:"config"`
		Layers    json.RawMessage `json:"layers"`
	}
	if err := Unmarshal(dt, &both); err != nil {
		return err
	}
	if both.Manifests != nil && (both.Config != nil || both.Layers != nil) {
		return errors.New("it is an index and an image at once")
	}
	if mediaType != "" && both.MediaType != "" && mediaType != both.MediaType {
		return fmt.Errorf("it says it is a %s, and its descriptor says %s", both.MediaType, mediaType)
	}
	return json.Unmarshal(dt, into)
}

// level is an object or list that is being read.
type level struct {
	object bool
	// seen are an object's names so far; name is the one whose value comes next, if there is one.
	seen   map[string]bool
	name   string
	folded bool
}

// check reads a document from end to end.
func check(dt []byte) error {
	d := json.NewDecoder(bytes.NewReader(dt))
	d.UseNumber()
	var open []level
	objects := 0
	for {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF) && len(open) > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		switch delim, _ := token.(json.Delim); delim {
		case '{', '[':
			if len(open) == maxDepth {
				return fmt.Errorf("it is nested more than %d deep", maxDepth)
			}
			next := level{object: delim == '{'}
			if next.object {
				objects++
				next.seen = map[string]bool{}
				next.folded = objects <= foldedDepth && !inAnnotations(open)
			}
			open = append(open, next)
			continue
		case '}', ']':
			if open[len(open)-1].object {
				objects--
			}
			open = open[:len(open)-1]
		default:
			if n := len(open); n > 0 && open[n-1].object && open[n-1].name == "" {
				if err := open[n-1].begin(token.(string)); err != nil { //nolint:forcetypeassert // a name is a string
					return err
				}
				continue
			}
		}
		// A value ended.
		if len(open) == 0 {
			if _, err := d.Token(); !errors.Is(err, io.EOF) {
				return errors.New("something follows it")
			}
			return nil
		}
		open[len(open)-1].name = ""
	}
}

// unnamed stands for the empty name, so that a name is known to be there.
const unnamed = "\x00"

// begin notes a name.
func (l *level) begin(name string) error {
	key := name
	if l.folded {
		key = strings.ToLower(name)
	}
	if l.seen[key] {
		return fmt.Errorf("%q stands twice in it", name)
	}
	l.seen[key] = true
	if l.name = name; name == "" {
		l.name = unnamed
	}
	return nil
}

// inAnnotations reports whether what begins is the value of annotations, whose names are the users'.
func inAnnotations(open []level) bool {
	return len(open) > 0 && open[len(open)-1].object && strings.EqualFold(open[len(open)-1].name, "annotations")
}
