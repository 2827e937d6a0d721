package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
)

// row is one line of the table and of results.json; names are stable.
// Reference is what the peer needed in the same run, Goal the limit of Value;
// null where there is none.
type row struct {
	Name      string   `json:"name"`
	Value     float64  `json:"value"`
	Unit      string   `json:"unit"`
	Reference *float64 `json:"reference"`
	Goal      *float64 `json:"goal"`
	OK        bool     `json:"ok"`
}

type table []row

// atMost adds a row whose value must not exceed goal.
func (t *table) atMost(name string, value float64, unit string, reference *float64, goal float64) {
	*t = append(*t, row{name, round(value), unit, reference, &goal, value <= goal})
}

// atLeast adds a row whose value must reach goal.
func (t *table) atLeast(name string, value float64, unit string, reference *float64, goal float64) {
	*t = append(*t, row{name, round(value), unit, reference, &goal, value >= goal})
}

// shown adds a row without a goal.
func (t *table) shown(name string, value float64, unit string, reference *float64) {
	*t = append(*t, row{name, round(value), unit, reference, nil, true})
}

func (t table) ok() bool {
	return !slices.ContainsFunc(t, func(r row) bool { return !r.OK })
}

func (t table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "name\tvalue\tunit\treference\tgoal\tok")
	for _, r := range t {
		ok := "yes"
		switch {
		case r.Goal == nil:
			ok = ""
		case !r.OK:
			ok = "NO"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, number(&r.Value), r.Unit, number(r.Reference), number(r.Goal), ok)
	}
	_ = tw.Flush() // a closed stdout loses the print, not results.json
}

func (t table) write(path string) error {
	p, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(p, '\n'), 0o644)
}

func number(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(round(*v), 'f', -1, 64)
}

// round keeps four significant digits, so that nobody reads noise.
func round(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	if scale < 1 {
		return math.Round(v)
	}
	return math.Round(v*scale) / scale
}

// ref is a reference rounded like a value.
func ref(v float64) *float64 {
	v = round(v)
	return &v
}

// percentile returns the smallest sample that p percent do not exceed; it
// sorts samples.
func percentile(samples []float64, p float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	slices.Sort(samples)
	i := int(math.Ceil(p/100*float64(len(samples)))) - 1
	return samples[max(i, 0)]
}

func median(samples []float64) float64 { return percentile(samples, 50) }
