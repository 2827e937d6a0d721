package cli

import (
	"cmp"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// words are what people read in listings; keys, commands and JSON stay English.
type words struct {
	english  bool
	noAlarms string
	since    string
	ackedBy  string
	status   map[string]string
}

func chinese() words {
	return words{
		noAlarms: "没有未结的报警。", since: "自", ackedBy: "已确认",
		status: map[string]string{"raised": "未确认", "acknowledged": "已确认", "cleared": "已恢复,未确认"},
	}
}

func english() words {
	return words{
		english: true, noAlarms: "No open alarms.", since: "since", ackedBy: "acknowledged by",
		status: map[string]string{"raised": "not acknowledged", "acknowledged": "acknowledged", "cleared": "cleared, not acknowledged"},
	}
}

// wordsFor picks the language: --lang, else the locale, else Chinese, which is
// what the people on site read.
func wordsFor(cmd *cobra.Command) words {
	lang, _ := cmd.Flags().GetString("lang")
	lang = cmp.Or(lang, os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG"))
	if strings.HasPrefix(lang, "en") {
		return english()
	}
	return chinese()
}
