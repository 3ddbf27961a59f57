/* SPDX-License-Identifier: MIT */
#include "base/control.h"

#include <string.h>

static bool control_is_plain(char byte)
{
	return byte > ' ' && byte < 0x7f && byte != '%';
}

void control_escape(struct strbuf *line, const char *word)
{
	while (*word) {
		size_t plain = 0;

		while (control_is_plain(word[plain]))
			plain++;
		strbuf_append(line, word, plain);
		word += plain;
		if (*word)
			strbuf_append_format(line, "%%%02x", (unsigned char)*word++);
	}
}

static int control_digit(char digit)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = digit ? strchr(digits, digit) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* In place. False: an escape is not one, or stands for the end of a string. */
static bool control_unescape(char *word)
{
	char *to = word;

	while (*word) {
		int byte = (unsigned char)*word++;

		if (byte == '%') {
			int high = control_digit(word[0]);
			int low = high < 0 ? -1 : control_digit(word[1]);

			if (low < 0 || (high == 0 && low == 0))
				return false;
			byte = high << 4 | low;
			word += 2;
		}
		*to++ = (char)byte;
	}
	*to = '\0';
	return true;
}

char *control_next_word(char **at)
{
	char *word = *at, *end;

	if (!word || !*word)
		return NULL;
	end = strchr(word, ' ');
	*at = end ? end + 1 : word + strlen(word);
	if (end)
		*end = '\0';
	if (control_unescape(word))
		return word;
	*at = NULL;
	return NULL;
}
