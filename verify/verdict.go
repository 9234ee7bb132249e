package verify

import "fmt"

// Verdict is what is said of an image. The four are never conflated.
type Verdict uint8

// The verdicts.
const (
	// Verified: the image holds machine code, and all that matters is for the platform.
	Verified Verdict = iota + 1
	// NothingToVerify: the image holds no machine code.
	NothingToVerify
	// Excepted: the image holds code for another machine where an exception allows it, and nothing else is wrong.
	Excepted
	// Refused: something in the image cannot run where it is meant to.
	Refused
)

var verdictNames = [...]string{Verified: "verified", NothingToVerify: "nothing to verify", Excepted: "excepted", Refused: "refused"}

// String returns the verdict as people read it.
func (v Verdict) String() string {
	if v > 0 && int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// MarshalText writes the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads one of the four names.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if name != "" && name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("invalid verdict %q", text)
}
