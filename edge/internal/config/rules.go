package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"gatehouse/configs"
	"gatehouse/edge/internal/rule"
	"gatehouse/firmware-profiles/strict"
)

// pack is a file of shipped rules.
type pack struct {
	Rules []rule.Def `yaml:"rules"`
}

// origin is where a rule is written, for what is found wrong with it later.
type origin struct {
	doc *strict.Doc
	key string
}

// rules joins the packs and the site's own rules and binds them to points.
func (l *loader) rules() {
	var defs []rule.Def
	origins := make(map[string]origin)
	for i, name := range l.cfg.Rules.Include {
		doc, shipped, err := readPack(configs.FS, name)
		if err != nil {
			l.Fail(fmt.Sprintf("rules.include[%d]", i), strict.OneOf(name, packNames(configs.FS)), "there is no rule pack %q", name)
			continue
		}
		for j, def := range shipped {
			key := fmt.Sprintf("rules[%d]", j)
			if _, taken := origins[def.ID]; taken {
				doc.Fail(key+".id", "give each rule its own", "the id %q is taken", def.ID)
				continue
			}
			origins[def.ID] = origin{doc, key}
			defs = append(defs, def)
		}
		l.elsewhere = append(l.elsewhere, doc.Problems()...)
	}
	defs = l.custom(defs, origins)

	bound, faults := rule.Bind(defs, l.plan.Points)
	for _, f := range faults {
		from := origins[f.ID]
		if from.doc == nil {
			continue // without an id: reported where it is written
		}
		key := from.key + "." + f.Key
		switch {
		case !from.doc.OK(key):
		case from.doc == l.Doc:
			l.Fail(key, f.Hint, "%s", f.What)
		default:
			l.elsewhere = append(l.elsewhere, from.doc.Problem(key, f.Hint, "%s", f.What))
		}
	}
	l.plan.Rules = bound
	for _, p := range rule.Unguarded(bound, l.plan.Points) {
		l.warn("rules", "add a rule for its role and unit", "no rule watches the safety point %s (%s in %q)", p.ID, p.Role, p.Unit)
	}
}

// custom adds the site's rules; one with the id of a shipped rule takes its place.
func (l *loader) custom(defs []rule.Def, origins map[string]origin) []rule.Def {
	own := make(map[string]bool)
	for i, def := range l.cfg.Rules.Custom {
		key := fmt.Sprintf("rules.custom[%d]", i)
		switch {
		case !l.required(key+".id", def.ID, "give the rule an id of its own, or that of the shipped rule it replaces"):
			continue
		case own[def.ID]:
			l.Fail(key+".id", "give each rule its own", "the id %q is taken", def.ID)
			continue
		}
		own[def.ID] = true
		_, replaces := origins[def.ID]
		origins[def.ID] = origin{l.Doc, key}
		if replaces {
			at := slices.IndexFunc(defs, func(d rule.Def) bool { return d.ID == def.ID })
			if def.Priority > defs[at].Priority { // P2 > P1: less urgent
				l.warn(key+".priority", "write down who decided so", "lowers the shipped rule %s from %s to %s", def.ID, defs[at].Priority, def.Priority)
			}
			defs[at] = def
		} else {
			defs = append(defs, def)
		}
	}
	return defs
}

// errNoPack occurs when a pack is not shipped.
var errNoPack = errors.New("no such rule pack")

func readPack(from fs.FS, name string) (*strict.Doc, []rule.Def, error) {
	file := path.Join("rules", name+".yaml")
	data, err := fs.ReadFile(from, file)
	if err != nil || strings.Contains(name, "/") {
		return nil, nil, errNoPack
	}
	var p pack
	doc := strict.Decode(path.Join("configs", file), data, &p)
	return doc, p.Rules, nil
}

func packNames(from fs.FS) []string {
	files, err := fs.Glob(from, "rules/*.yaml")
	if err != nil {
		return nil // only a bad pattern, and this one is constant
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	return files
}
