// SPDX-License-Identifier: Apache-2.0

// The module path is the real one, so that the linker flag
// "-X github.com/k3s-io/k3s/pkg/version.Version=..." recorded in the build
// information of a stand-in reads exactly like that of a released k3s. Nothing
// here comes from k3s. (2021 eras: build.sh renames it to github.com/rancher/k3s.)
module github.com/k3s-io/k3s

go 1.19
