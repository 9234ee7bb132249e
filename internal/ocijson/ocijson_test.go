package ocijson

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestManifest(t *testing.T) {
	t.Parallel()
	const index = "application/vnd.oci.image.index.v1+json"
	for _, tc := range []struct{ name, doc, mediaType, err string }{
		{name: "an index", doc: `{"mediaType":"` + index + `","manifests":[{"digest":"a","platform":{"os":"linux"}}]}`, mediaType: index},
		{name: "no media type", doc: `{"manifests":[]}`, mediaType: index},
		{name: "an image", doc: `{"config":{"digest":"a"},"layers":[{"digest":"a"},{"digest":"a"}],"annotations":{"A":"1","a":"2","":"3"}}`},
		{name: "both", doc: `{"manifests":[],"config":{}}`, err: "it is an index and an image at once"},
		{name: "both, with layers", doc: `{"manifests":[],"layers":[]}`, err: "it is an index and an image at once"},
		{name: "both, in capitals", doc: `{"Manifests":[],"LAYERS":[]}`, err: "it is an index and an image at once"},
		{name: "another media type", doc: `{"mediaType":"x","manifests":[]}`, mediaType: index, err: "it says it is a x, and its descriptor says " + index},
		{name: "twice", doc: `{"layers":[],"layers":[]}`, err: `"layers" stands twice in it`},
		{name: "twice, escaped", doc: `{"layers":[],"l\u0061yers":[]}`, err: `"layers" stands twice in it`},
		{name: "twice, in capitals", doc: `{"layers":[],"Layers":[]}`, err: `"Layers" stands twice in it`},
		{name: "twice in a descriptor", doc: `{"layers":[{"digest":"a","size":1,"Digest":"b"}]}`, err: `"Digest" stands twice in it`},
		{name: "twice among annotations", doc: `{"annotations":{"a":"1","a":"2"}}`, err: `"a" stands twice in it`},
		{name: "twice the empty name", doc: `{"":"1","":"2"}`, err: `"" stands twice in it`},
		{name: "deep lists", doc: strings.Repeat("[", 100_000), err: "it is nested more than 64 deep"},
		{name: "deep objects", doc: strings.Repeat(`{"a":`, 100_000), err: "it is nested more than 64 deep"},
		{name: "cut off", doc: `{"layers":[`, err: "unexpected EOF"},
		{name: "nothing", doc: ``, err: "EOF"},
		{name: "two", doc: `{} {}`, err: "something follows it"},
		{name: "a list", doc: `[]`, err: "cannot unmarshal array"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var into map[string]any
			err := Manifest([]byte(tc.doc), tc.mediaType, &into)
			switch {
			case tc.err == "" && err != nil:
				t.Error(err)
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("it says %v, want %s", err, tc.err)
			}
		})
	}
}

// A config's labels and volumes are named by users: only the same name twice is ambiguous there.
func TestConfig(t *testing.T) {
	t.Parallel()
	var image ocispec.Image
	doc := `{"architecture":"arm64","os":"linux","config":{"Labels":{"A":"1","a":"2"},"Volumes":{"/X":{},"/x":{}}}}`
	if err := Unmarshal([]byte(doc), &image); err != nil {
		t.Fatal(err)
	}
	if len(image.Config.Labels) != 2 || len(image.Config.Volumes) != 2 {
		t.Errorf("got %v", image.Config)
	}
}

// What is accepted means the same to encoding/json, and to whoever takes the first of two values.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":1},null,"x",{"":{}}]}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, dt []byte) {
		var strict, plain any
		if err := Unmarshal(dt, &strict); err != nil {
			return
		}
		if err := json.Unmarshal(dt, &plain); err != nil || !reflect.DeepEqual(strict, plain) {
			t.Errorf("it is accepted, and encoding/json says %v", err)
		}
		if err := Unmarshal(append([]byte(`{"a":`), append(dt, `,"a":0}`...)...), &strict); err == nil {
			t.Error("a second value is accepted")
		}
	})
}
