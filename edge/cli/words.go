package cli

import (
	"cmp"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse/edge/internal/web"
)

// words are what people read in listings; keys, commands and JSON stay English.
type words struct {
	english   bool
	noAlarms  string
	since     string
	ackedBy   string
	notStored string
	status    map[string]string
	link      map[bool]string
	done      string
	confirm   string // device, command, device
}

// title is what the alarm is called in this language, or in the other if it
// has no name here.
func (w words) title(a web.AlarmView) string {
	if w.english {
		return cmp.Or(a.TitleEN, a.Title)
	}
	return cmp.Or(a.Title, a.TitleEN)
}

func chinese() words {
	return words{
		noAlarms: "没有未结的报警。", since: "自", ackedBy: "已确认", notStored: "已生效,但尚未存盘:存储无响应",
		status: map[string]string{"raised": "未确认", "acknowledged": "已确认", "cleared": "已恢复,未确认"},
		link:   map[bool]string{true: "已连接", false: "未连接"}, done: "已执行",
		confirm: "对设备 %s 执行命令 %s,将记录在案。输入设备编号 %s 确认: ",
	}
}

func english() words {
	return words{
		english: true, noAlarms: "No open alarms.", since: "since", ackedBy: "acknowledged by", notStored: "done, but not yet stored: the store does not answer",
		status: map[string]string{"raised": "not acknowledged", "acknowledged": "acknowledged", "cleared": "cleared, not acknowledged"},
		link:   map[bool]string{true: "up", false: "down"}, done: "done",
		confirm: "Device %s, command %s; it will be put on record. Type the device's id %s to confirm: ",
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
