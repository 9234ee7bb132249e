// Package oracle holds package script against real shells: it runs a script with a PATH of recorders, whose outcomes the test chooses, and
// compares what was run with what was read. It is for tests.
//
//	o, err := oracle.New(t.Context(), t.TempDir())
//	ran, err := o.Run([]string{"dash"}, text, outcomes)
//	problem := oracle.Compare(text, ran)
package oracle
