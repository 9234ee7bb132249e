package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
	"github.com/manifold-build/manifold/verify"
)

// parallelImages is how many images are read at once; package verify bounds the layers.
const parallelImages = 4

// verified is one image as "manifold verify --format json" prints it.
type verified struct {
	verify.Report

	Ref    string        `json:"ref"`
	Digest digest.Digest `json:"digest"`
}

type verifyFlags struct {
	registryFlags

	platforms []string
	except    []string
	form      format
}

func verifyCommand(s streams) *cobra.Command {
	f := verifyFlags{form: formatTable}
	cmd := &cobra.Command{
		Use: "verify REF…",
		Example: `  manifold verify ghcr.io/app/app:1.0
  manifold verify --platform linux/arm64 docker-archive:app.tar`,
		Short: "Check that every image in there really is for the platform it says",
		Long: "Check that config, index and machine code of every image agree, and that what the image starts can run.\n\n" +
			"REF is a reference in a registry, oci-layout:DIR, oci-archive:FILE, or docker-archive:FILE (docker save).\n" +
			"The exit code is 0 only if nothing is refused. An image without machine code has \"nothing to verify\".",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []verified
			client := f.client(s)
			for _, ref := range args {
				some, err := f.verify(cmd.Context(), client, ref)
				if err != nil {
					return err
				}
				all = append(all, some...)
			}
			if err := f.print(s.out, all); err != nil {
				return err
			}
			return refusal(all)
		},
	}
	cmd.Flags().StringSliceVar(&f.platforms, "platform", nil, "check only these platforms")
	cmd.Flags().StringSliceVar(&f.except, "verify-except", nil, "paths that may hold another machine's code, as in .dockerignore (/usr/lib/firmware/**)")
	cmd.Flags().Var(&f.form, "format", "print a table or JSON")
	f.register(cmd.Flags())
	return cmd
}

// verify checks the images that one name stands for.
func (f verifyFlags) verify(ctx context.Context, client *index.Client, ref string) (_ []verified, err error) {
	wanted, err := platforms.ParseList(strings.Join(f.platforms, ","))
	if err != nil {
		return nil, err
	}
	source, err := client.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	images := source.Index.Images
	for _, p := range wanted {
		if len(source.Index.Select(p)) == 0 {
			return nil, fmt.Errorf("%s: there is no image for %s in it", ref, p)
		}
	}
	if len(wanted) > 0 {
		images = nil
		for _, p := range wanted {
			images = append(images, source.Index.Select(p)...)
		}
	}
	return f.images(ctx, source, ref, images)
}

// images checks images whose blobs a provider has.
func (f verifyFlags) images(ctx context.Context, blobs verify.Fetcher, ref string, images []index.Image) ([]verified, error) {
	out := make([]verified, len(images))
	reader := verify.NewReader(blobs)
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelImages)
	for i, image := range images {
		eg.Go(func() (err error) {
			want := verify.Want{Platform: image.Platform, Except: f.except}
			if image.Descriptor.Platform != nil {
				want.Descriptor = platforms.FromOCI(*image.Descriptor.Platform)
			}
			out[i] = verified{Ref: ref, Digest: image.Descriptor.Digest}
			if out[i].Report, err = reader.Image(ctx, image.Descriptor, want); err != nil {
				err = fmt.Errorf("%s: %s: %w", ref, image.Platform, err)
			}
			return err
		})
	}
	return out, eg.Wait()
}

func (f verifyFlags) print(w io.Writer, all []verified) error {
	if f.form == formatJSON {
		return printJSON(w, all)
	}
	rows := make([][]string, len(all))
	for i, v := range all {
		descriptor := "-"
		if v.Descriptor != nil {
			descriptor = v.Descriptor.String()
		}
		rows[i] = []string{v.Platform.String(), v.Config.String(), descriptor, machines(v.Machines), orDash(printable(v.Interpreter)), v.Verdict.String()}
	}
	if err := printTable(w, []string{"PLATFORM", "CONFIG", "DESCRIPTOR", "MACHINE CODE", "INTERPRETER", "VERDICT"}, rows); err != nil {
		return err
	}
	for _, v := range all {
		printFindings(w, v.Report)
	}
	return nil
}

// printFindings prints what a table has no room for.
func printFindings(w io.Writer, r verify.Report) {
	for _, kind := range []struct {
		name string
		list []verify.Finding
	}{{"refused", r.Refused}, {"excepted", r.Excepted}, {"warning", r.Warnings}} {
		for i, f := range kind.list {
			if i == maxFindings {
				fmt.Fprintf(w, "%s: %s: and %d more (--format json lists all)\n", r.Platform, kind.name, len(kind.list)-i)
				break
			}
			fmt.Fprintf(w, "%s: %s: %s\n", r.Platform, kind.name, printable(f.String()))
		}
	}
}

// maxFindings is how many findings of a kind are shown for one image.
const maxFindings = 20

// maxMachines is how many machines are shown for one image; toolchains bring test data for many.
const maxMachines = 3

// machines is what the code of an image is for.
func machines(list []verify.Machine) string {
	var out []string
	for i, m := range list {
		if i == maxMachines {
			out = append(out, fmt.Sprintf("%d others", len(list)-i))
			break
		}
		out = append(out, fmt.Sprintf("%s (%d)", printable(m.Name), m.Files))
	}
	return cmp.Or(strings.Join(out, ", "), "-")
}

// refusal is an error if any image is refused.
func refusal(all []verified) error {
	n, except := 0, ""
	for _, v := range all {
		if v.Verdict == verify.Refused {
			n++
		}
		for _, f := range v.Refused {
			if except == "" && f.Path != "" && f.Machine != "" && !f.Started {
				except = fmt.Sprintf("; --verify-except %s allows a file that is meant to be there", printable(f.Path))
			}
		}
	}
	switch {
	case n == 0:
		return nil
	case len(all) == 1:
		return refusedError{errors.New("the image is refused" + except)}
	}
	return refusedError{fmt.Errorf("%d of %d images are refused%s", n, len(all), except)}
}
