package strict

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Text string            `yaml:"text"`
	Wait time.Duration     `yaml:"wait"`
	Map  map[string]string `yaml:"map"`
}

type outer struct {
	Name  string             `yaml:"name"`
	Count int                `yaml:"count"`
	Small uint16             `yaml:"small"`
	Bits  uint64             `yaml:"bits"`
	Ratio *float64           `yaml:"ratio"`
	On    bool               `yaml:"on"`
	Inner *inner             `yaml:"inner"`
	List  []inner            `yaml:"list"`
	Codes map[uint64]float64 `yaml:"codes"`
}

func TestDecodeReadsEveryKindOfField(t *testing.T) {
	var got outer
	d := Decode("f.yaml", []byte("\xef\xbb\xbf"+`
name: 砚峡小区
count: -3
small: 0x0200
bits: 0x00C0FFFF
ratio: 1
on: true
inner: {text: no, wait: 1m30s, map: {a.b: c}}
list:
  - text: "7"
  - {wait: 100ms}
codes: {0x0: 0, 12: 1.5, 0xF: 2}
`), &got)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	if got.Name != "砚峡小区" || got.Count != -3 || got.Small != 0x200 || got.Bits != 0xC0FFFF || *got.Ratio != 1 || !got.On {
		t.Errorf("scalars: %+v", got)
	}
	if got.Inner.Text != "no" || got.Inner.Wait != 90*time.Second || got.Inner.Map["a.b"] != "c" {
		t.Errorf("inner: %+v", got.Inner)
	}
	if len(got.List) != 2 || got.List[0].Text != "7" || got.List[1].Wait != 100*time.Millisecond {
		t.Errorf("list: %+v", got.List)
	}
	if got.Codes[0] != 0 || got.Codes[12] != 1.5 || got.Codes[15] != 2 {
		t.Errorf("codes: %v", got.Codes)
	}
}

func TestDecodeFindsEveryFaultInOneRun(t *testing.T) {
	d := Decode("f.yaml", []byte(`
名字: x
nmae: x
count: 1.5
small: 70000
ratio: .inf
on: yes
inner: {wait: 3, text: 7, 地: 1, txet: y}
list: [{wait: -, <<: {a: 1}}, 5]
codes: {x: 1, 12: 1, 0xC: 2}
`), &outer{})
	want := []string{
		`f.yaml:2:1 名字: unknown key`,
		`f.yaml:3:1 nmae: unknown key, did you mean "name"?`,
		`f.yaml:4:1 count: is the number 1.5, write a whole number`,
		`f.yaml:5:1 small: the number 70000 is out of range`,
		`f.yaml:6:1 ratio: is the number .inf, write a number`,
		`f.yaml:7:1 on: is the text "yes", write true or false`,
		`f.yaml:8:9 inner.wait: is the number 3, write a duration with its unit`,
		`f.yaml:8:18 inner.text: is the number 7 where text belongs, put it in quotes: "7"`,
		`f.yaml:8:27 inner.地: unknown key`,
		`f.yaml:8:33 inner.txet: unknown key, did you mean "text"?`,
		`f.yaml:9:9 list[0].wait: is the text "-"`,
		`f.yaml:9:18 list[0]: "<<" is no key, use plain names as keys`,
		`f.yaml:9:31 list[1]: is the number 5, write a block of keys`,
		`f.yaml:10:9 codes.x: "x" is no code`,
		`f.yaml:10:22 codes.12: stands here twice, keep one of them`,
	}
	got := d.Problems()
	for i, p := range got {
		if i >= len(want) || !strings.HasPrefix(p.String(), want[i]) {
			t.Errorf("problem %d: %s", i, p)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d problems, want %d", len(got), len(want))
	}
}

func TestFileThatIsNotOneYAMLDocumentSaysWhere(t *testing.T) {
	for src, want := range map[string]string{
		"":                              "f.yaml:1:1: the file is empty",
		"name: [a\ncount: 1":            "f.yaml:2:1: not YAML",
		"name: a\n\tcount: 1":           "f.yaml:2:1: not YAML",
		"name: a\n---\nname: b":         "f.yaml:3:5: a second document begins",
		"name: a\nx: 砚\xd1\xe2":         "f.yaml:2:5: not UTF-8",
		"name: 'a\r\n\r\n b'\r\n\tx: 1": "f.yaml:4:1: not YAML",
		"- a":                           "f.yaml:1:1: is a list, write a block of keys",
		strings.Repeat("[", 200):        "f.yaml:1:33: nested more than 32 deep",
		strings.Repeat("- ", 200):       "f.yaml:1:65: nested more than 32 deep",
		strings.Repeat("#", 1+MaxSize):  "f.yaml:1:1: the file has 1048577 bytes",
		"name: &a x\ninner: {text: *a}": "f.yaml:1:1 name: anchors, aliases and tags are not accepted",
	} {
		problems := Decode("f.yaml", []byte(src), &outer{}).Problems()
		if len(problems) == 0 || !strings.HasPrefix(problems[0].String(), want) {
			t.Errorf("%.40q: got %v, want %s", src, problems, want)
		}
	}
}

func TestFindingOnARefusedValueIsNotRepeated(t *testing.T) {
	d := Decode("f.yaml", []byte("nmae: x\ninner: {wait: 3}\nlist: 7"), &outer{})
	found := len(d.Problems())
	d.Fail("name", "", "is missing")
	d.Fail("inner.wait", "", "is too short")
	d.Fail("list[0].text", "", "is missing")
	if got := len(d.Problems()); got != found {
		t.Errorf("%d problems after echoes, want %d:\n%v", got, found, d.Err())
	}
	d.Fail("inner.text", "write it", "is missing")
	if got := d.Problems(); !slices.Contains(got, Problem{"f.yaml", 2, 1, "inner.text", "is missing", "write it"}) {
		t.Errorf("a missing key is reported at the block it belongs to: %v", got)
	}
}

func TestNearestNamesSlipsAndNothingElse(t *testing.T) {
	names := []string{"address", "gas_alarm", "id", "zone"}
	for slip, want := range map[string]string{
		"adress": "address", "gas_alram": "gas_alarm", "Zone": "zone", "di": "id", "voltage": "", "": "", "x": "",
	} {
		if got, _ := Nearest(slip, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", slip, got, want)
		}
	}
}

// FuzzDecode: no bytes make Decode panic, every problem stands inside the
// file, and what decodes without a problem decodes the same from a text that
// is written from it.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"name: a\ncount: 3\n", "inner: {wait: 1s, map: {a: b}}", "codes: {0x1: 2}", "list: [{text: a}, {}]",
		"name: [", "? a\n: b", "a: &x [*x]", "<<: {}", "\xff\xfe", "name: |\n  x\n", "on: true\r\nratio: -.5e3", "{", "- - -", "name: \"\\u0000\"",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v outer
		d := Decode("f", data, &v)
		lines := 2 + strings.Count(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data)), "\n")
		for _, p := range d.Problems() {
			if p.Line < 1 || p.Line > lines || p.Col < 1 {
				t.Errorf("%v lies outside a file of %d lines", p, lines)
			}
		}
		if d.Err() != nil {
			return
		}
		var again outer
		text := fmt.Sprintf("name: %s\ncount: %d\nsmall: %d\nbits: %d\non: %t\n", strconv.Quote(v.Name), v.Count, v.Small, v.Bits, v.On)
		if err := Decode("f", []byte(text), &again).Err(); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if again.Name != v.Name || again.Count != v.Count || again.Small != v.Small || again.Bits != v.Bits || again.On != v.On {
			t.Errorf("%+v came back as %+v", v, again)
		}
	})
}
