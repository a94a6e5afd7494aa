/* SPDX-License-Identifier: Apache-2.0 */
#include <k3sup/version.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const char *k3sup_version(void)
{
	return TEXT(K3SUP_VERSION_MAJOR) "." TEXT(K3SUP_VERSION_MINOR) "." TEXT(K3SUP_VERSION_PATCH);
}
