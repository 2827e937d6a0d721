// Package configs carries the shipped files that a program needs at run time,
// linked in, so that a box with nothing but the binary is complete. The other
// files of this folder are for people and for systemd.
package configs

import "embed"

// FS holds the shipped rule packs, rules/NAME.yaml.
//
//go:embed rules/*.yaml
var FS embed.FS
