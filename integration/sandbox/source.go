package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Source is what Debian keeps of a project as its authors published it.
type Source struct {
	// Path is where it is in Debian's pool, Sum its SHA-256.
	Path, Sum string
}

// Sources are projects of others', to be built both ways.
var Sources = map[string]Source{
	"zlib":  {"z/zlib/zlib_1.3.dfsg+really1.3.1.orig.tar.gz", "60dd315c07f616887caa029408308a018ace66e3d142726a97db164b3b8f69fb"},
	"lua":   {"l/lua5.4/lua5.4_5.4.7.orig.tar.gz", "9fbf5e28ef86c69858f6d3d34eccc32e911c1a28b4120ff3e84aaa70cfbf1e30"},
	"xz":    {"x/xz-utils/xz-utils_5.8.1.orig.tar.xz", "0b54f79df85912504de0b14aec7971e3f964491af1812d83447005807513cd9e"},
	"fmt":   {"f/fmtlib/fmtlib_10.1.1+ds1.orig.tar.gz", "7000f214d2628f04174822f8048c573f1608194408d7931121595a03f1c18a17"},
	"nginx": {"n/nginx/nginx_1.26.3.orig.tar.gz", "69ee2b237744036e61d24b836668aad3040dda461fe6f570f1787eab570c75aa"},
}

// sourceWait bounds the download of one project.
const sourceWait = 5 * time.Minute

// UnpackSource fetches a project, once for each machine, and unpacks it into a folder.
func UnpackSource(ctx context.Context, name, dir string) error {
	src, ok := Sources[name]
	if !ok {
		return fmt.Errorf("no project is called %s", name)
	}
	kept, err := kept("sources", src.Sum, func(into string) error { return src.fetch(ctx, filepath.Join(into, "tar")) })
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, err = run(ctx, command{Args: []string{"tar", "-xf", filepath.Join(kept, "tar"), "-C", dir, "--strip-components=1", "--no-same-owner"}})
	return err
}

func (s Source) fetch(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, sourceWait)
	defer cancel()
	url := "http://deb.debian.org/debian/pool/main/" + s.Path
	return get(ctx, url, func(body io.Reader) error {
		all, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(all); hex.EncodeToString(sum[:]) != s.Sum {
			return fmt.Errorf("it has the SHA-256 %x, and %s was expected", sum, s.Sum)
		}
		return os.WriteFile(name, all, 0o644)
	})
}

// get fetches a file and hands on its content.
func get(ctx context.Context, url string, read func(io.Reader) error) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	if err := read(res.Body); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}
