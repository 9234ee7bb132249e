// Package planner plans how every stage of a Dockerfile is run for each target, and writes the text that each target is built from.
//
//	p := planner.Open(file, planner.Request{Host: host, Targets: targets})
//	plan, err := p.Plan()
//	p.Answer(planner.Answer{Probe: plan.Probes[0], Text: "pure"}) // what a node said
//	plan, err = p.Plan()                                          // costs what the answer changes
//	text, err := p.Text(arm64)
//
// It puts together what package place decides and package stage reads, words it for people, and turns it into edits of package source.
package planner
