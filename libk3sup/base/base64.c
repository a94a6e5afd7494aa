/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

static int value_of(unsigned char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

ssize_t k3sup__base64(unsigned char *bytes, size_t len, bool dry)
{
	size_t digits = 0, pads = 0, out = 0;
	uint32_t bits = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = bytes[i];
		int value = value_of(c);

		if (c == '\n' || c == '\r' || c == ' ' || c == '\t')
			continue;
		if (c == '=' && digits % 4 + pads % 4 >= 2 && pads < 2) {
			pads++;
			continue;
		}
		if (value < 0 || pads > 0)
			return -1;
		bits = bits << 6 | (uint32_t)value;
		if (digits++ % 4 == 0)
			continue;
		if (!dry)
			bytes[out] = (unsigned char)(bits >> (2 * (3 - (digits - 1) % 4)));
		out++;
	}
	return digits > 0 && (digits + pads) % 4 == 0 ? (ssize_t)out : -1;
}
