// SPDX-License-Identifier: Apache-2.0

// The inner multicall program: server, agent, kubectl and the others.
package main

import "github.com/k3s-io/k3s/pkg/inner"

func main() { inner.Main() }
