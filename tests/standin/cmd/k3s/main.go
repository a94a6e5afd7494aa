// SPDX-License-Identifier: Apache-2.0

// The wrapper: the file an operator installs as /usr/local/bin/k3s.
package main

import "github.com/k3s-io/k3s/pkg/wrapper"

func main() { wrapper.Main() }
