package index

import (
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Progress is told of every blob that is brought somewhere, as often as something changes. It is called by several goroutines, one at a time.
type Progress func(Transfer)

// Transfer is one blob on its way.
type Transfer struct {
	// To is the repository, folder or file it goes to.
	To     string
	Digest digest.Digest
	// Current and Total are bytes.
	Current, Total int64
	// Done: it is there. How says in one word how it came: "copied", "mounted", or "exists" if it was there before.
	Done bool
	How  string
}

// reporter tells a Progress.
type reporter struct {
	mu   sync.Mutex
	tell Progress
}

func (r *reporter) report(t Transfer) {
	if r == nil || r.tell == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell(t)
}

// reportEvery is how many bytes pass between two reports, at least.
const reportEvery = 1 << 20

// reported tells of a body that is being read.
func (r *reporter) reported(rc io.ReadCloser, t Transfer) io.ReadCloser {
	if r == nil || r.tell == nil {
		return rc
	}
	r.report(t)
	return &reportedReader{ReadCloser: rc, reporter: r, transfer: t}
}

type reportedReader struct {
	io.ReadCloser

	reporter *reporter
	transfer Transfer
	last     int64
}

func (b *reportedReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.transfer.Current += int64(n)
	if b.transfer.Current-b.last >= reportEvery {
		b.last = b.transfer.Current
		b.reporter.report(b.transfer)
	}
	return n, err
}
