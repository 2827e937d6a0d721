package strict

import (
	"fmt"
	"strings"
)

// Nearest returns the name that s is most likely a slip of: at most two
// letters away, or one in three of a long name.
func Nearest(s string, names []string) (string, bool) {
	best, limit := "", max(2, len(s)/3)+1
	for _, name := range names {
		if d := distance(s, name); d < limit && d < len(name) {
			best, limit = name, d
		}
	}
	return best, best != ""
}

// OneOf is the hint for a name that is not on a list: the nearest one that
// is, else the whole list.
func OneOf[T ~string](s T, names []T) string {
	var plain []string
	for _, n := range names {
		if n != "" {
			plain = append(plain, string(n))
		}
	}
	if near, ok := Nearest(string(s), plain); ok {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "one of: " + strings.Join(plain, ", ")
}

// distance is the number of letters to insert, delete, replace or swap with a
// neighbour to turn a into b (optimal string alignment).
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before, last, row := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(s); i++ {
		row[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(t)]
}
