// Command gatehouse-cloud is the service gateways report to and platforms
// pull from.
package main

import (
	"context"
	"fmt"
	"os"

	"gatehouse/cloud/cli"
)

func main() {
	if err := cli.New().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse-cloud:", err)
		os.Exit(1)
	}
}
