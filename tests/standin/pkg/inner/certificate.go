// SPDX-License-Identifier: Apache-2.0

package inner

import "github.com/k3s-io/k3s/pkg/standin"

func certificate(era standin.Era, args []string) {
	printVersion("k3s certificate")(era, args)
}
