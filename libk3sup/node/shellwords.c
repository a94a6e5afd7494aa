/* SPDX-License-Identifier: Apache-2.0 */
#include "node/shell.h"

#include "node/shellexpand.h"

/* Skips a redirection with the number in front of it. 1, 0: none is here; -EINVAL. */
static int skip_redirected(const char **at)
{
	size_t digits = strspn(*at, "0123456789");
	ssize_t n;

	if ((*at)[digits] != '<' && (*at)[digits] != '>')
		return 0;
	*at += digits;
	*at += strspn(*at, "<>&|");
	*at += strspn(*at, " \t");
	n = k3sup__shell_word_len(*at);
	if (n <= 0)
		return -EINVAL;
	*at += n;
	return 1;
}

int k3sup__shell_words(struct k3sup__shell *shell, const char *text, struct k3sup__strv *ret)
{
	struct k3sup__strv words = {0};
	int r = 0;

	while (r == 0) {
		ssize_t n;

		text += strspn(text, " \t\n");
		if (*text == '\0' || *text == '#')
			break;
		if (text[0] == '\\' && text[1] == '\n') {
			text += 2;
			continue;
		}
		r = skip_redirected(&text);
		if (r != 0) {
			r = r > 0 ? 0 : r;
			continue;
		}
		n = k3sup__shell_word_len(text);
		r = n > 0 ? k3sup__shell_expand(shell, text, (size_t)n, true, &words) : -EINVAL;
		text += n > 0 ? n : 0;
	}
	if (r < 0) {
		k3sup__strv_clear(&words);
		return r;
	}
	*ret = words;
	return 0;
}
