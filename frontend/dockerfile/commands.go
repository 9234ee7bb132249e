package dockerfile

import (
	"path"
	"regexp"
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

// tool is one row of the table of known commands.
type tool struct {
	// names are the commands, separated by spaces.
	names  string
	nature nature
	// why is what makes a command that asks depend on the machine, as a clause; empty means it asks about the machine.
	why string
	// refuse matches an argument with which a command depends on the machine after all. Nil means none does.
	refuse *regexp.Regexp
	// family is what a plan calls the command; empty means its name.
	family string
	// leaves are the directories, relative to where it runs, in which it may leave machine code of the machine. Their
	// content is looked at before it is used.
	leaves string
	// driver judges a command that is told its target. Nil means that nature says it all.
	driver func(*judge, script.Command)
}

var (
	otherRoot  = regexp.MustCompile(`^(--root|-p|--installroot|--print-arch|--arch|--forcearch|fetch|download|.*=.*Dir.*)(=.*)?$`)
	nativeJVM  = regexp.MustCompile(`(?i)native|jlink|jpackage|graal|Xshare|ArchiveClasses|SharedArchive|AOTCache|AOTMode|CRaC`)
	nativeNode = regexp.MustCompile(`(?i)^(--?(cpu|arch|target[_-]arch|libc)(=.*)?|node-gyp.*|electron.*|.*/?pkg|nexe|.*playwright.*|.*cypress.*|.*puppeteer.*|--compile)$|process\.(arch|platform|config|versions)|\bos\.(arch|cpus|machine|release)\b`)
	otherArch  = regexp.MustCompile(`^-[a-zA-Z]*[amnprvi]|^--(all|machine|processor|hardware-platform|nodename|kernel-release|kernel-version)`)
)

// tools is the table of known commands. One row is enough to make a command known.
var tools = []tool{
	// The shell's own, and plain file handling.
	{names: "echo printf type hash exec true false : [ test sleep seq yes read let times kill jobs trap command", nature: plain},
	{names: "mkdir rmdir touch rm unlink chmod chown chgrp ln cat tac head tail tee wc cut tr sort uniq nl paste comm join split csplit fold expand unexpand fmt pr rev", nature: plain},
	{names: "awk gawk mawk", nature: plain, refuse: regexp.MustCompile(`system *\(|getline|\| *"`)},
	{names: "sed grep egrep fgrep find xargs diff patch cmp basename dirname realpath readlink pwd ls stat du df id whoami groups date mktemp sync dd truncate shuf tsort", nature: plain},
	{names: "tar zip unzip 7z", nature: copies},
	{names: "gzip gunzip zcat bzip2 bunzip2 xz unxz xzcat zstd unzstd lz4 brotli pigz", nature: plain},
	{names: "cpio pax", nature: asks, why: "copies files that the Dockerfile does not name"},
	{names: "cp mv install rsync", nature: copies},
	{names: "md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum base64 base32 od hexdump xxd strings iconv dos2unix envsubst jq yq xmlstarlet xsltproc column", nature: plain},
	{names: "adduser addgroup useradd groupadd usermod deluser delgroup passwd chpasswd nproc env printenv hostname tty stty clear which whereis tree less more locale-gen setcap getcap getent", nature: plain},
	{names: "openssl", nature: plain, refuse: regexp.MustCompile(`^(version|speed|info|engine)$`)},
	{names: "update-ca-certificates c_rehash gpg gpg2 gpgv ssh-keygen ssh-keyscan ssh-agent ssh-add cosign rehash", nature: plain},
	{names: "git git-lfs svn hg", nature: plain, refuse: regexp.MustCompile(`^alias\.`)},
	{names: "upx", nature: plain}, // packs executables of every architecture alike

	// Fetching and installing.
	{names: "curl wget aria2c", nature: fetches},
	{names: "apk apt-get apt aptitude dnf microdnf yum tdnf zypper apt-key add-apt-repository apt-mark apt-cache", nature: installs, refuse: otherRoot},

	// What asks about the machine, or works for it alone.
	{names: "arch dpkg dpkg-architecture dpkg-query dpkg-deb rpm rpm2cpio lscpu getconf lshw dmidecode systeminfo config.guess", nature: asks},
	{names: "ldd ldconfig patchelf file readelf objdump nm gdb ltrace strace qemu-user", nature: asks, why: "looks at programs of the machine"},
	{names: "strip objcopy gcc g++ cc c++ cpp clang clang++ ld lld gold as ar ranlib tcc musl-gcc", nature: asks, why: "works for the machine it runs on"},
	{names: "cmake ctest configure ninja meson autoconf autoreconf automake libtool bazel bazelisk scons xmake", nature: asks, why: "builds for the machine it runs on"},
	{names: "jlink jpackage native-image gu", nature: asks, why: "makes a program for the machine it runs on"},
	{names: "node-gyp node-pre-gyp prebuild-install electron-builder electron-packager pkg nexe", nature: asks, why: "builds for the machine it runs on"},
	{names: "sh bash ash dash ksh zsh . source", nature: asks, why: "runs a script that the Dockerfile does not hold"},

	// Node, and the tools that come with it.
	{names: "npm pnpm yarn yarnpkg npx pnpx", nature: builds, refuse: nativeNode, leaves: "node_modules"},
	{names: "corepack bower", nature: builds},
	{names: "node nodejs", nature: builds, refuse: nativeNode, family: "node"},
	{names: "lerna nx turbo rush", nature: builds, refuse: nativeNode, leaves: "node_modules"},
	{names: "tsc vite esbuild webpack webpack-cli rollup parcel gulp grunt ng vue-cli-service react-scripts ts-node tsx babel swc browserify", nature: builds, refuse: nativeNode},
	{names: "next nuxt nuxi gatsby astro remix svelte-kit vuepress vitepress docusaurus eleventy hexo ember quasar", nature: builds},
	{names: "sass node-sass lessc postcss tailwindcss eslint prettier stylelint jest vitest mocha uglifyjs terser svgo html-minifier", nature: builds},

	// Static sites and documents.
	{names: "hugo zola mdbook jekyll mkdocs asciidoctor pandoc doxygen sphinx-build antora", nature: builds},

	// Java.
	{names: "mvn mvnw mvnd", nature: builds, refuse: nativeJVM, family: "mvn"},
	{names: "gradle gradlew", nature: builds, refuse: nativeJVM, family: "gradle"},
	{names: "java javac jar javadoc jdeps keytool ant sbt lein kotlinc scalac", nature: builds, refuse: nativeJVM},

	// Other generators whose output is source text or data.
	{names: "protoc buf flatc thrift bison flex yacc composer gofmt msgfmt gettext", nature: builds},

	// Toolchains that are told their target.
	{names: "go", driver: judgeGo},
	{names: "make gmake", driver: judgeMake},
	{names: "uname", driver: judgeUname},
	{names: "dotnet", driver: judgeDotnet},
	{names: "cargo", driver: judgeCargo},
	{names: "rustup", driver: judgeRustup},
}

// toolNamed finds a command's row.
func toolNamed(name string) (tool, bool) {
	t, ok := toolIndex[name]
	return t, ok
}

var toolIndex map[string]tool

func init() { //nolint:gochecknoinits // an index of the table, whose rows refer to functions that use it
	toolIndex = map[string]tool{}
	for _, t := range tools {
		for name := range strings.FieldsSeq(t.names) {
			toolIndex[name] = t
		}
	}
}

// systemBins are the directories whose programs are known by their last name alone.
var systemBins = []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/local/go/bin"}

// wrapperScripts are the scripts that projects keep under these names for a known tool.
var wrapperScripts = []string{"mvnw", "gradlew"}

// commandName is the name by which a program is looked up in the table; empty if its path says nothing.
func commandName(word string) string {
	if !strings.Contains(word, "/") {
		return word
	}
	dir, base := path.Split(word)
	dir = path.Clean(dir)
	switch {
	case contains(systemBins, dir), contains(wrapperScripts, base), strings.HasSuffix(dir, "node_modules/.bin"):
		return base
	default:
		return ""
	}
}

// archWord matches an architecture written in a name, with what is around it.
var archWord = regexp.MustCompile(`(?i)(?:^|[^a-z0-9])(x86[_-]64|amd64|x64|x86|i[36]86|386|aarch64|arm64(?:v8)?|armv?[5678][a-z]*|armhf|armel|arm32(?:v[567])?|ppc64(?:le|el)?|s390x|riscv64|mips(?:64)?(?:le|el)?|loong(?:arch)?64)(?:$|[^a-z0-9])`)

// mayNameArch rules out most names without the expression: every spelling holds one of these.
func mayNameArch(s string) bool {
	return strings.Contains(s, "64") || strings.Contains(s, "86") || strings.Contains(s, "390") ||
		strings.ContainsAny(s, "mM") && (strings.Contains(strings.ToLower(s), "arm") || strings.Contains(strings.ToLower(s), "mips"))
}

// findArchWord returns the architecture written in a name, or nothing.
func findArchWord(s string) string {
	if !mayNameArch(s) {
		return ""
	}
	if m := archWord.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}
