package scale

import (
	"math"
	"strconv"
	"testing"
)

func TestTheResultIsTheDecimalAPersonExpects(t *testing.T) {
	tests := []struct {
		raw, scale, offset float64
		decimals, digits   int
		want               string
	}{
		{raw: 235, scale: 0.1, want: "23.5"},
		{raw: 3, scale: 0.1, want: "0.3"},
		{raw: 7, scale: 0, want: "7"},
		{raw: 4095, scale: 0.004884, want: "19.99998"},
		{raw: 367, scale: 0.1, offset: -40, want: "-3.3"},
		{raw: 999999999999, scale: 0.01, want: "9999999999.99"},
		{raw: 125, scale: 1, decimals: 1, want: "12.5"},
		{raw: float64(float32(230.1)), scale: 1, digits: 7, want: "230.1"},
		{raw: 0, scale: -0.1, want: "0"},
	}
	for _, tt := range tests {
		got := New(tt.scale, tt.offset).Apply(tt.raw, tt.decimals, tt.digits)
		if s := strconv.FormatFloat(got, 'f', -1, 64); s != tt.want {
			t.Errorf("%v*%v%+v / 10^%d = %s, want %s", tt.raw, tt.scale, tt.offset, tt.decimals, s, tt.want)
		}
	}
}

// TestEveryDecimalScaleIsExact compares with the decimal point moved in text.
func TestEveryDecimalScaleIsExact(t *testing.T) {
	for places := range 7 {
		linear := New(math.Pow10(-places), 0)
		for _, raw := range []int64{1, 3, 7, 99, 235, 2205, 65535, 1234567, 99999999, 4294967295} {
			want, err := strconv.ParseFloat(strconv.FormatInt(raw, 10)+"e-"+strconv.Itoa(places), 64)
			if err != nil {
				t.Fatal(err)
			}
			if got := linear.Apply(float64(raw), 0, 0); got != want {
				t.Errorf("%d with %d places = %v, want %v", raw, places, got, want)
			}
		}
	}
}
