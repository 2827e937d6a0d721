// Package all is the explicit table of drivers. A new one is one folder and
// one line here.
package all

import (
	"gatehouse/drivers"
	"gatehouse/drivers/dlt645"
	"gatehouse/drivers/lineframe"
	"gatehouse/drivers/modbus"
	"gatehouse/drivers/osdp"
)

// Factories maps the name a profile uses to the driver.
var Factories = map[string]drivers.Factory{
	"modbus":    modbus.New,
	"dlt645":    dlt645.New,
	"lineframe": lineframe.New,
	"osdp":      osdp.New,
}
