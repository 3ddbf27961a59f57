/* SPDX-License-Identifier: MIT */
#include "format/jsontext.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

#define JSONTEXT_REPLACEMENT "\xef\xbf\xbd"
#define JSONTEXT_HEX_SUFFIX "_hex"

/* How many bytes the character at @text has; 0: it is none of UTF-8. */
static size_t jsontext_character(const unsigned char *text)
{
	unsigned char lead = text[0];
	size_t length = lead < 0x80		    ? 1 :
			lead >= 0xc2 && lead < 0xe0 ? 2 :
			lead >= 0xe0 && lead < 0xf0 ? 3 :
			lead >= 0xf0 && lead < 0xf5 ? 4 :
						      0;

	/* The NUL at the end is no continuation, so nothing behind it is looked at. */
	for (size_t i = 1; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	/* Longer than need be, a surrogate, or beyond the last one. */
	if ((lead == 0xe0 && text[1] < 0xa0) || (lead == 0xed && text[1] >= 0xa0) ||
	    (lead == 0xf0 && text[1] < 0x90) || (lead == 0xf4 && text[1] >= 0x90))
		return 0;
	return length;
}

/* @bytes with a replacement for each that is no part of a character. False: there was none. */
static bool jsontext_repair(const char *bytes, struct strbuf *text)
{
	bool was_broken = false;

	while (*bytes) {
		size_t length = jsontext_character((const unsigned char *)bytes);

		if (length)
			strbuf_append(text, bytes, length);
		else
			strbuf_append_string(text, JSONTEXT_REPLACEMENT);
		was_broken |= length == 0;
		bytes += length ? length : 1;
	}
	return was_broken;
}

static int jsontext_set_hex(json_t *object, const char *key, const char *bytes)
{
	_cleanup_strbuf_ struct strbuf name = STRBUF_INIT, hex = STRBUF_INIT;

	strbuf_append_string(&name, key);
	strbuf_append_string(&name, JSONTEXT_HEX_SUFFIX);
	for (; *bytes; bytes++)
		strbuf_append_format(&hex, "%02x", (unsigned char)*bytes);
	if (name.failed || hex.failed)
		return -ENOMEM;
	return json_object_set_new(object, name.data, json_string(hex.data)) < 0 ? -ENOMEM : 0;
}

int jsontext_set(json_t *object, const char *key, const char *bytes)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
	bool was_broken = bytes && jsontext_repair(bytes, &text);
	json_t *value;

	if (text.failed)
		return -ENOMEM;
	value = !bytes ? json_null() : json_stringn(text.data ? text.data : "", text.length);
	if (json_object_set_new(object, key, value) < 0)
		return -ENOMEM;
	return was_broken ? jsontext_set_hex(object, key, bytes) : 0;
}

/* ---- and back ---- */

static char *jsontext_from_hex(const char *hex)
{
	size_t length = strlen(hex) / 2;
	char *bytes = calloc(1, length + 1);

	for (size_t i = 0; bytes && i < length; i++) {
		unsigned int byte;

		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			byte = '?';
		bytes[i] = (char)byte;
	}
	return bytes;
}

int jsontext_get(const json_t *object, const char *key, char **bytes)
{
	_cleanup_strbuf_ struct strbuf name = STRBUF_INIT;
	const json_t *text = json_object_get(object, key);

	strbuf_append_string(&name, key);
	strbuf_append_string(&name, JSONTEXT_HEX_SUFFIX);
	if (name.failed)
		return -ENOMEM;
	const char *hex = json_string_value(json_object_get(object, name.data));

	if (!json_is_string(text) || strlen(json_string_value(text)) != json_string_length(text))
		return -EINVAL;
	*bytes = hex ? jsontext_from_hex(hex) : strdup(json_string_value(text));
	return *bytes ? 0 : -ENOMEM;
}
