// Package nearest finds the name that somebody probably meant. It is pure, and imports nothing.
package nearest

// Name returns the entry of names at an edit distance of at most two from s, the first of the closest, or "" if there is none.
func Name(s string, names []string) string {
	best, bestAt := "", 3
	for _, n := range names {
		if d := distance(s, n); d < bestAt && d < len(n) {
			best, bestAt = n, d
		}
	}
	return best
}

// distance is the Damerau-Levenshtein distance (optimal string alignment): a swap of neighbours counts once.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
