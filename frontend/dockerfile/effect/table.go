package effect

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// nature says what a command's result depends on.
type nature uint8

const (
	// plain: files and words in, files and words out; the same on every machine.
	plain nature = iota + 1
	// copies is plain, and puts files of the stage somewhere else.
	copies
	// fetches is plain as long as no architecture is written in what it fetches.
	fetches
	// installs puts packages for the machine into the stage's system directories.
	installs
	// builds makes what does not depend on the machine out of sources: static files, bytecode.
	builds
	// asks about the machine, or works for the machine it runs on alone.
	asks
)

// row is one row of the table of known commands.
type row struct {
	// names are the commands, separated by spaces.
	names  string
	nature nature
	// why is what makes a command that asks depend on the machine, as a clause; empty means it asks about the machine.
	why string
	// unless matches an argument with which a command depends on the machine after all. Nil means none does.
	unless *regexp.Regexp
	// family is what a plan calls the command; empty means its name.
	family string
	// leaves are the directories, relative to where it runs, in which it may leave machine code of the machine. Their
	// content is looked at before it is used.
	leaves string
	// flags are those that take a value.
	flags string
	// also reads what the command's nature does not say. Nil means that it says it all.
	also func(c Call, a arguments, e *Effect)
	// compiles says that the command compiles, or may run what does, although its nature is not builds.
	compiles bool
	// of is the toolchain that is told its target. Nil means that nature says it all.
	of func(*Toolchains) toolchain

	table flagTable
}

// toolchain reads a command that is told its target.
type toolchain interface {
	read(c Call, e *Effect)
}

var (
	nativeJVM  = regexp.MustCompile(`(?i)native|jlink|jpackage|graal|Xshare|ArchiveClasses|SharedArchive|AOTCache|AOTMode|CRaC|^-XshowSettings|PrintFlags|^-Xinternalversion`)
	nativeNode = regexp.MustCompile(`(?i)^(--?(cpu|arch|target[_-]arch|libc)(=.*)?|node-gyp.*|electron.*|.*/?pkg|nexe|.*playwright.*|.*cypress.*|.*puppeteer.*|--compile|--build-(snapshot|sea)(-config)?(=.*)?|--experimental-sea-config(=.*)?|--node-snapshot)$`)
)

// table is the table of known commands. One row is enough to make a command known.
var table = []row{
	// The shell's own, and plain file handling.
	{names: "echo printf type hash exec true false : [ test sleep seq yes read let times kill jobs trap command", nature: plain},
	{names: "mkdir rmdir touch rm unlink chmod chown chgrp ln cat tac head tail tee wc cut tr uniq nl paste comm join csplit fold expand unexpand fmt pr rev", nature: plain,
		flags: "-m --mode -t --target-directory -n -c --lines --bytes -d -f --fields --delimiter --reference -r"},
	{names: "sort", nature: plain, unless: regexp.MustCompile(`^--compress-program`)},
	{names: "split", nature: plain, unless: regexp.MustCompile(`^--filter`)},
	{names: "awk gawk mawk", nature: plain, also: readAwk, flags: "-F -v --assign --field-separator -f --file -e --source -i --include -E --exec -l --load"},
	{names: "sed", nature: plain, also: readSed, flags: "-e --expression -f --file -l"},
	{names: "grep egrep fgrep find xargs diff patch cmp basename dirname realpath readlink pwd ls stat du df id whoami groups date mktemp sync dd truncate shuf tsort", nature: plain},
	{names: "tar", nature: copies, unless: regexp.MustCompile(`^--(to-command|checkpoint-action|rsh-command|info-script|new-volume-script)`),
		flags: "-f --file -C --directory -T --files-from -X --exclude-from --exclude --transform --strip-components -I --use-compress-program --owner --group --mtime --mode --sort --format --one-top-level --numeric-owner=no"},
	{names: "zip", nature: copies, unless: regexp.MustCompile(`^(-TT|--unzip-command)`), flags: "-x -i -b -n -t"},
	{names: "unzip", nature: copies, flags: "-d -x -P"},
	{names: "7z 7za 7zr", nature: copies},
	{names: "gzip gunzip zcat bzip2 bunzip2 xz unxz xzcat zstd unzstd lz4 brotli pigz", nature: plain, also: readCompressor, flags: "-S --suffix -T --threads -o"},
	{names: "cpio pax", nature: asks, why: "copies files that the Dockerfile does not name"},
	{names: "cp mv", nature: copies, flags: "-t --target-directory -S --suffix"},
	{names: "install", nature: copies, unless: regexp.MustCompile(`^(-[a-zA-Z]*s|--strip|--strip-program.*)$`), flags: "-t --target-directory -S --suffix -m --mode -o --owner -g --group --strip-program"},
	{names: "rsync", nature: copies, unless: regexp.MustCompile(`^(-[a-zA-Z]*e|--rsh.*)$`), flags: "--exclude --include --filter -f --exclude-from --include-from --chmod --chown"},
	{names: "md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum base64 base32 od hexdump xxd strings iconv dos2unix envsubst jq xmlstarlet xsltproc column", nature: plain},
	{names: "yq", nature: plain, unless: regexp.MustCompile(`system\(|load\(`)},
	{names: "adduser addgroup useradd groupadd usermod deluser delgroup passwd chpasswd nproc env printenv hostname tty stty clear which whereis tree less more locale-gen setcap getcap getent", nature: plain},
	{names: "openssl", nature: plain, unless: regexp.MustCompile(`^(version|speed|info|engine|-engine|-provider-path)$`)},
	{names: "update-ca-certificates c_rehash gpg gpg2 gpgv ssh-keygen ssh-keyscan ssh-agent ssh-add cosign rehash", nature: plain},
	{names: "git git-lfs", nature: plain, also: readGit, flags: "-C -c --git-dir --work-tree --namespace"},
	{names: "svn hg", nature: plain, unless: regexp.MustCompile(`^(alias|hooks|extensions)\.`)},
	{names: "upx", nature: plain}, // packs executables of every architecture alike

	// Fetching and installing.
	{names: "curl", nature: fetches, flags: "-o --output -H --header -d --data -u --user -x --proxy --retry --retry-delay --retry-max-time --connect-timeout -m --max-time --cacert -A --user-agent -X --request -e --referer -w --write-out -b --cookie -c --cookie-jar -T -F --form --output-dir --create-file-mode -r --range -K --config -E --cert --key --url"},
	{names: "wget", nature: fetches, flags: "-O --output-document -P --directory-prefix -o --output-file --header -U --user-agent -T --timeout -t --tries --waitretry --user --password --ca-certificate -e --execute -i --input-file"},
	{names: "aria2c", nature: fetches, flags: "-o --out -d --dir -x -s -j"},
	{names: "apk apt-get apt aptitude dnf microdnf yum tdnf zypper apt-key add-apt-repository apt-mark apt-cache", nature: installs, flags: "-t --virtual -X --repository -o --option -c"},

	// What asks about the machine, or works for it alone.
	{names: "arch dpkg dpkg-architecture dpkg-query dpkg-deb rpm rpm2cpio lscpu getconf lshw dmidecode systeminfo config.guess", nature: asks},
	{names: "ldd ldconfig patchelf file readelf objdump nm gdb ltrace strace qemu-user", nature: asks, why: "looks at programs of the machine"},
	{names: "strip objcopy gcc g++ cc c++ cpp clang clang++ ld lld gold as ar ranlib tcc musl-gcc", nature: asks, compiles: true, why: "works for the machine it runs on"},
	{names: "cmake ctest configure ninja meson autoconf autoreconf automake libtool bazel bazelisk scons xmake", nature: asks, compiles: true, why: "builds for the machine it runs on"},
	{names: "jlink jpackage native-image gu", nature: asks, why: "makes a program for the machine it runs on"},
	{names: "node-gyp node-pre-gyp prebuild-install electron-builder electron-packager pkg nexe", nature: asks, compiles: true, why: "builds for the machine it runs on"},
	{names: "sh bash ash dash ksh zsh . source", nature: asks, compiles: true, why: "runs a script that the Dockerfile does not hold"},

	// Node, and the tools that come with it.
	{names: "npm pnpm yarn yarnpkg npx pnpx bunx", nature: builds, unless: nativeNode, leaves: "node_modules", also: readNPM, flags: "--prefix -C -w --workspace --filter --cache --registry -p --package -c --call --cwd --dir"},
	{names: "corepack bower", nature: builds},
	{names: "node nodejs", nature: builds, unless: nativeNode, family: "node", also: readNode, flags: "-e --eval -p --print -pe -r --require --import --loader --experimental-loader --max-old-space-size --stack-size -C --conditions"},
	{names: "lerna nx turbo rush", nature: builds, unless: nativeNode, leaves: "node_modules"},
	{names: "tsc vite esbuild webpack webpack-cli rollup parcel gulp grunt ng vue-cli-service react-scripts ts-node tsx babel swc browserify", nature: builds, unless: nativeNode},
	{names: "next nuxt nuxi gatsby astro remix svelte-kit vuepress vitepress docusaurus eleventy hexo ember quasar", nature: builds},
	{names: "sass node-sass lessc postcss tailwindcss eslint prettier stylelint jest vitest mocha uglifyjs terser svgo html-minifier", nature: builds},

	// Static sites and documents.
	{names: "hugo zola mdbook jekyll mkdocs asciidoctor pandoc doxygen sphinx-build antora", nature: builds},

	// Java.
	{names: "mvn mvnw mvnd", nature: builds, unless: nativeJVM, family: "mvn"},
	{names: "gradle gradlew", nature: builds, unless: nativeJVM, family: "gradle"},
	{names: "java javac jar javadoc jdeps keytool ant sbt lein kotlinc scalac", nature: builds, unless: nativeJVM, also: readJava},

	// Other generators whose output is source text or data.
	{names: "protoc buf flatc thrift bison flex yacc composer gofmt msgfmt gettext", nature: builds},

	// Toolchains that are told their target.
	{names: "go", compiles: true, of: func(t *Toolchains) toolchain { return &t.Go }},
	{names: "make gmake", compiles: true, of: func(t *Toolchains) toolchain { return makeToolchain{&t.Go} }},
	{names: "uname", of: func(*Toolchains) toolchain { return uname{} }},
	{names: "dotnet", of: func(*Toolchains) toolchain { return dotnet{} }},
	{names: "cargo", compiles: true, of: func(t *Toolchains) toolchain { return &t.Rust }},
	{names: "rustup", of: func(t *Toolchains) toolchain { return rustup{&t.Rust} }},
}

var rows map[string]row

func init() { //nolint:gochecknoinits // an index of the table, whose rows refer to functions that use it
	rows = map[string]row{}
	for _, r := range table {
		r.table = flagsOf(r.flags)
		for name := range strings.FieldsSeq(r.names) {
			rows[name] = r
		}
	}
}

// read tells what a command does by its row.
func (r row) read(t *Toolchains, c Call, e *Effect) {
	if r.of != nil {
		r.of(t).read(c, e)
		return
	}
	a := r.table.parse(c.Words[1:])
	if r.unless != nil {
		for _, word := range c.Words[1:] {
			if r.unless.MatchString(word) {
				e.dependsf(c, "runs %q with %s, which depends on the machine", c.Name, Shown(word))
			}
		}
		if a.unsure && c.Through != "" {
			e.dependsf(c, "runs %q with words that are only known when it runs", c.Name)
		}
	}
	if r.also != nil {
		r.also(c, a, e)
	}
	switch r.nature {
	case asks:
		why := r.why
		if why == "" {
			why = "asks about the machine"
		}
		e.dependsf(c, "runs %q, which %s", Short(c.Words), why)
	case fetches:
		fetch(c, a, e)
	case installs:
		installPackages(c, a, e)
	case builds:
		r.build(c, e)
	case copies:
		copyFiles(c, a, e)
	case plain:
		plainFiles(c, a, e)
	}
}

// compileless are the commands of go and cargo that compile nothing.
var compileless = strings.Fields("env version mod fmt clean work help doc fetch vendor update metadata init new search tree generate-lockfile")

// MayCompile reports whether a command compiles, or runs what may: a program that is not known, a script, a build tool.
func (c Call) MayCompile() bool {
	r, known := rows[c.Name]
	switch {
	case !known || !script.Known(c.Words[0]):
		return true
	case r.of != nil:
		return r.compiles && (len(c.Words) < 2 || !slices.Contains(compileless, c.Words[1]))
	default:
		return r.compiles || r.nature == builds
	}
}

// build tells what a builder does: it may run programs that are found by their names, and writes where it is told by absolute paths.
func (r row) build(c Call, e *Effect) {
	name := r.family
	if name == "" {
		name = c.Name
	}
	e.Runs = &Run{Line: c.Line, What: Short(c.Words), Perhaps: true}
	e.Tool = name
	for _, word := range c.Words[1:] {
		if _, value, ok := strings.Cut(word, "="); ok {
			word = value
		}
		if path.IsAbs(word) && !IsSystemDir(word) && !IsSystemDir(path.Dir(word)) || path.Dir(word) == "/" && !IsSystemDir(word) {
			e.file(Makes, path.Clean(word))
		}
	}
	for dir := range strings.FieldsSeq(r.leaves) {
		e.Files = append(e.Files, File{Kind: Suspects, Path: c.Path(dir), By: name})
	}
}

// systemBins are the directories whose programs are known by their last name alone.
var systemBins = []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/local/go/bin", "/usr/lib/go/bin", "/usr/local/cargo/bin"}

// wrapperScripts are the scripts that projects keep under these names for a known tool.
var wrapperScripts = []string{"mvnw", "gradlew"}

// NameOf is the name by which a program is looked up in the table; empty if its path says nothing.
func NameOf(word string) string {
	if !strings.Contains(word, "/") {
		return word
	}
	dir, base := path.Split(word)
	dir = path.Clean(dir)
	switch {
	case slices.Contains(systemBins, dir), slices.Contains(wrapperScripts, base), strings.HasSuffix(dir, "node_modules/.bin"):
		return base
	default:
		return ""
	}
}

// IsKnown reports whether a command is in the table.
func IsKnown(name string) bool {
	_, known := rows[name]
	return known
}

// IsSystemBin reports whether a folder is one of those whose programs are known by their names.
func IsSystemBin(dir string) bool { return slices.Contains(systemBins, dir) }

// OnPath reports whether programs in a directory are found by their names.
func OnPath(dir string) bool {
	return slices.Contains(systemBins, dir) || strings.HasSuffix(dir, "/bin")
}

// WrapperScript returns the words of a command without the shell that runs a known script: sh ./mvnw package.
func WrapperScript(words []string) []string {
	if words[0] != "sh" && words[0] != "bash" {
		return words
	}
	for i, w := range words[1:] {
		if strings.HasPrefix(w, "-") {
			continue
		}
		if slices.Contains(wrapperScripts, path.Base(w)) {
			return words[i+1:]
		}
		break
	}
	return words
}

// IsSystemDir reports whether a directory is one that every image has, so that being told to make it says nothing about
// what it holds.
func IsSystemDir(p string) bool {
	p = Stem(p)
	return systemDirs[p] || strings.HasPrefix(p, "/lib") || strings.HasPrefix(p, "/usr/lib")
}

// Stem is the part of a path before what is not known of it or matches several names.
func Stem(p string) string {
	for i := range len(p) {
		switch c := p[i]; {
		case c == '*', c == '?', c == '[', c == script.Unknown[0] && strings.HasPrefix(p[i:], script.Unknown):
			return path.Dir(path.Clean(p[:i] + "x"))
		}
	}
	return path.Clean(p)
}

var systemDirs = set(
	"/", "/bin", "/boot", "/dev", "/etc", "/home", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp",
	"/usr", "/usr/bin", "/usr/sbin", "/usr/include", "/usr/libexec", "/usr/share", "/usr/src", "/usr/local", "/usr/local/bin",
	"/usr/local/sbin", "/usr/local/etc", "/usr/local/include", "/usr/local/lib", "/usr/local/lib64", "/usr/local/share",
	"/usr/local/src", "/usr/local/go", "/usr/local/go/bin", "/usr/local/cargo", "/usr/local/cargo/bin", "/var", "/var/lib", "/var/cache", "/var/log", "/var/run",
	"/go",
)

func set(list ...string) map[string]bool {
	out := map[string]bool{}
	for _, s := range list {
		out[s] = true
	}
	return out
}
