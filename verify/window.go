package verify

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"sync"
)

// windowSize is how much of a file is readable at once, in bytes: more than any table that is looked at.
const windowSize = 64 << 10

// window is a file that is read forward: what lies within windowSize of its position can be looked at.
type window struct {
	r   *bufio.Reader
	pos uint64
	// kept is the beginning of a stream, as far as it was passed over: what lies there can be looked at again.
	kept []byte
	// any is the same file where it can be read anywhere; nil if it is a stream.
	any io.ReaderAt
}

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, windowSize) }}

// newWindow opens a window on a file whose first bytes were read already. It has to be closed, which does not close the file.
func newWindow(head []byte, rest io.Reader) *window {
	b := buffers.Get().(*bufio.Reader) //nolint:forcetypeassert // as above
	b.Reset(io.MultiReader(bytes.NewReader(head), rest))
	w := &window{r: b}
	w.any, _ = rest.(io.ReaderAt)
	return w
}

func (w *window) close() {
	w.r.Reset(nil)
	buffers.Put(w.r)
	if cap(w.kept) > 0 {
		prefixes.Put(&w.kept)
	}
}

// maxKeptPrefix is how much of a stream's beginning can be looked at again, in bytes: the names that a program is linked with stand there, and the table that
// tells which of them are meant stands behind its code.
const maxKeptPrefix = 4 << 20

var prefixes = sync.Pool{New: func() any { return new([]byte) }}

// keep notes what is passed over, while it is the file's beginning.
func (w *window) keep(n int) {
	if w.any != nil || uint64(len(w.kept)) != w.pos || len(w.kept) >= maxKeptPrefix {
		return
	}
	if w.kept == nil {
		w.kept = (*prefixes.Get().(*[]byte))[:0] //nolint:forcetypeassert // as above
	}
	b, _ := w.r.Peek(min(n, maxKeptPrefix-len(w.kept)))
	w.kept = append(w.kept, b...)
}

// at returns n bytes from an offset, valid until the next call; nil if they are not in the file, or lie behind what can still be looked at.
func (w *window) at(offset uint64, n int) []byte {
	switch {
	case n < 0 || n > windowSize || offset > math.MaxInt64:
		return nil
	case offset+uint64(n) <= uint64(len(w.kept)):
		return w.kept[offset:][:n]
	case w.any != nil && (offset < w.pos || offset-w.pos+uint64(n) > windowSize):
		if b := w.anywhere(offset, n); len(b) == n {
			return b
		}
		return nil
	case offset < w.pos:
		return nil
	}
	ahead := offset - w.pos
	if ahead+uint64(n) > windowSize {
		if !w.skip(ahead) {
			return nil
		}
		ahead = 0
	}
	b, err := w.r.Peek(int(ahead) + n)
	if err != nil {
		return nil
	}
	return b[ahead:]
}

// most is what remains of the window: the beginning of a short file.
func (w *window) most(n int) []byte {
	b, _ := w.r.Peek(n)
	return b
}

// tail is what there is from an offset on, up to n bytes: less at a file's end, or where what was kept ends.
func (w *window) tail(offset uint64, n int) []byte {
	switch {
	case offset < uint64(len(w.kept)):
		return w.kept[offset:][:min(uint64(n), uint64(len(w.kept))-offset)] //nolint:gosec // not negative
	case w.any != nil:
		return w.anywhere(offset, n)
	case offset < w.pos:
		return nil
	}
	if w.at(offset, 1) == nil {
		return nil
	}
	b := w.most(int(min(windowSize, offset-w.pos+uint64(n)))) //nolint:gosec // not negative
	return b[min(offset-w.pos, uint64(len(b))):]
}

func (w *window) skip(n uint64) bool {
	for n > 0 {
		step := min(n, windowSize)
		w.keep(int(step))
		done, err := w.r.Discard(int(step))
		w.pos += uint64(done) //nolint:gosec // not negative
		if err != nil {
			return false
		}
		n -= step
	}
	return true
}

const (
	attributesVendor = "aeabi\x00"
	// A section of attributes begins with its version and its length.
	beforeVendor = 5
	maxMarks     = 32
)

// anywhere returns up to n bytes from an offset of a file that can be read anywhere.
func (w *window) anywhere(offset uint64, n int) []byte {
	if offset > math.MaxInt64 {
		return nil
	}
	b := make([]byte, n)
	n, _ = w.any.ReadAt(b, int64(offset))
	return b[:n]
}

// attributes returns the section headers, and what else stands at an offset. Of a stream that is only what looks like attributes: that section
// stands before the headers that say where it is.
func (w *window) attributes(offset uint64, n int) ([]byte, func(offset uint64) []byte) {
	if w.any != nil {
		return w.anywhere(offset, n), func(offset uint64) []byte { return w.anywhere(offset, maxAttributes) }
	}
	table, marks := w.readOn(offset, n)
	return table, func(offset uint64) []byte { return marks[offset] }
}

// readOn reads a stream on to the section headers, and returns them with all that looks like attributes on the way, by offset.
func (w *window) readOn(offset uint64, n int) ([]byte, map[uint64][]byte) {
	marks := map[uint64][]byte{}
	for w.pos < offset {
		b := w.most(int(min(windowSize, offset-w.pos)))
		if len(b) == 0 {
			return nil, nil
		}
		i := bytes.Index(b, []byte(attributesVendor))
		switch {
		case i < 0 && len(b) <= beforeVendor+len(attributesVendor):
			if !w.skip(uint64(len(b))) {
				return nil, nil
			}
		case i < 0: // one may lie across the end
			if !w.skip(uint64(len(b) - beforeVendor - len(attributesVendor))) { //nolint:gosec // longer than that
				return nil, nil
			}
		case i < beforeVendor:
			w.skip(uint64(i + len(attributesVendor)))
		default:
			w.skip(uint64(i - beforeVendor))
			if len(marks) < maxMarks {
				marks[w.pos] = bytes.Clone(w.most(maxAttributes))
			}
			w.skip(uint64(beforeVendor + len(attributesVendor)))
		}
	}
	return bytes.Clone(w.at(offset, n)), marks
}
