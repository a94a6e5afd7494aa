// SPDX-License-Identifier: Apache-2.0

module k3sup

go 1.19
