// SPDX-License-Identifier: Apache-2.0

package wrapper

import (
	"os"

	"github.com/k3s-io/k3s/pkg/config"
	"github.com/k3s-io/k3s/pkg/standin"
)

// configFile: the wrapper knows the variable and the default path only. It
// never looks at --config, in any era.
func configFile() string {
	if f := os.Getenv("K3S_CONFIG_FILE"); f != "" {
		return f
	}
	return config.DefaultFile
}

// findDataDir decides where to unpack. Since July 2024 K3S_DATA_DIR wins over
// the command line; before, the variable means nothing here.
func findDataDir(era standin.Era, args []string) (string, error) {
	if era.ReadsDataDirEnv {
		if d := os.Getenv("K3S_DATA_DIR"); d != "" {
			return config.DataDir(d), nil
		}
	}
	if d, ok := config.Arg(args, "data-dir", "d"); ok && d != "" {
		return config.DataDir(d), nil
	}
	kv, err := config.Read(config.Files(configFile(), era.ReadsDropIns))
	if err != nil {
		return "", err
	}
	return config.DataDir(kv["data-dir"]), nil
}
