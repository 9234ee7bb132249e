package verify

import (
	"hash"

	"github.com/opencontainers/go-digest"
)

// summing computes a digest beside the reading of a stream, so that reading does not wait for it.
type summing struct {
	sum    hash.Hash
	alg    digest.Algorithm
	buf    []byte
	full   chan []byte
	unused chan []byte
	done   chan struct{}
}

const (
	sumBuffer  = 256 << 10 // bytes
	sumBuffers = 3
)

func newSumming(alg digest.Algorithm) *summing {
	s := &summing{alg: alg, sum: alg.Hash(), full: make(chan []byte, sumBuffers), unused: make(chan []byte, sumBuffers), done: make(chan struct{})}
	for range sumBuffers - 1 {
		s.unused <- make([]byte, 0, sumBuffer)
	}
	s.buf = make([]byte, 0, sumBuffer)
	go func() {
		defer close(s.done)
		for b := range s.full {
			s.sum.Write(b)
			s.unused <- b[:0]
		}
	}()
	return s
}

// Write takes bytes over. It never fails.
func (s *summing) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		took := min(len(p), cap(s.buf)-len(s.buf))
		s.buf = append(s.buf, p[:took]...)
		if p = p[took:]; len(s.buf) == cap(s.buf) {
			s.full <- s.buf
			s.buf = <-s.unused
		}
	}
	return n, nil
}

// digest ends the stream. It has to be called once, whatever came of the reading, and nothing may be written after it.
func (s *summing) digest() digest.Digest {
	s.full <- s.buf
	close(s.full)
	<-s.done
	return digest.NewDigest(s.alg, s.sum)
}
