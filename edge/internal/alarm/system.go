package alarm

import (
	"time"

	"gatehouse/edge/internal/rule"
	"gatehouse/protocol/point"
)

// systemPoint is the origin of alarms about the gateway itself.
const systemPoint point.ID = "gateway/self"

// stallRule is the id of the alarm about a store that does not answer.
const stallRule = "store-stalled"

// stallDef and unreadableDef are alarms about the store. They are raised like
// any other: outputs first.
func stallDef() rule.Def {
	return rule.Def{ID: stallRule, Priority: "P2", Title: "存储无响应,报警记录未落盘", TitleEN: "Store stalled: alarm records are not durable"}
}

func unreadableDef() rule.Def {
	return rule.Def{ID: "alarms-unreadable", Priority: "P2", Title: "部分报警记录已损坏", TitleEN: "Some open alarms could not be read"}
}

// own reports whether a is about the gateway and not about what it watches:
// such an alarm has no role.
func (a *Alarm) own() bool { return a.Role == "" }

// System raises (trouble is not nil) or clears an alarm that the gateway has
// about itself or, if origin is given, about one of its outputs. It does
// nothing when the alarm already stands that way.
func (m *Manager) System(def rule.Def, origin point.ID, trouble error) {
	if origin == "" {
		origin = systemPoint
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.system(def, origin, trouble)
}

// system is System with m.mu held.
func (m *Manager) system(def rule.Def, origin point.ID, trouble error) {
	k := key(def.ID, origin)
	a := m.open[k]
	switch active := a != nil && a.Active; {
	case trouble != nil && !active:
		b := rule.Bound{
			Guard: &rule.Guard{Def: &def, Priority: int(def.Priority[1] - '0')},
			Point: &rule.PointInfo{ID: origin, Name: "网关"},
		}
		m.raise(k, b, point.Value{}, trouble.Error())
	case trouble == nil && active:
		m.clear(k, a)
	}
}

// watchStall raises or clears the alarm about a store that does not answer.
// That alarm's own record waits behind the others; its outputs do not.
func (m *Manager) watchStall(now time.Time) {
	trouble := m.queue.stalled(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.system(stallDef(), systemPoint, trouble)
}

// Stalled says whether, and why, alarm steps are not being stored.
func (m *Manager) Stalled() error { return m.queue.stalled(time.Now()) }
