// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"net"
	"os"
)

// notifyReady tells systemd READY=1. Without a socket, or with the empty one
// the child of a --log pair gets since 2022, it does nothing.
func notifyReady() {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte("READY=1\n"))
}
