// SPDX-License-Identifier: Apache-2.0

// Command example makes the running k3s of this node be the build in FILE, and shows how far it is:
//
//	example [-root DIR] [-stable DURATION] FILE
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k3sup"
)

func upgrade(root, payload string, stable time.Duration) (*k3sup.Document, error) {
	// The first SIGTERM or Ctrl-C stops it where that is safe. Once k3s was told to end, it is seen through.
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ctx, err := k3sup.NewContext(k3sup.ContextOptions{})
	if err != nil {
		return nil, err
	}
	defer ctx.Close()
	node, err := ctx.Node(k3sup.NodeOptions{Root: root})
	if err != nil {
		return nil, err
	}
	defer node.Close()
	op, err := node.Upgrade(k3sup.UpgradeOptions{Payload: payload, Stable: stable, WaitLock: time.Minute})
	if err != nil {
		return nil, err
	}
	defer op.Close()
	op.OnProgress(func(p k3sup.Progress) error {
		fmt.Printf("%3d %% %s: %s\n", p.Percent, p.Step, p.Text)
		return nil
	})
	return op.Wait(stop)
}

func main() {
	root := flag.String("root", "", "the node's root directory, such as /host in a pod")
	stable := flag.Duration("stable", 0, "how long the new k3s must have stayed (default 20s)")
	flag.Parse()
	result, err := upgrade(*root, flag.Arg(0), *stable)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(result)
}
