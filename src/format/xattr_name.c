/* SPDX-License-Identifier: MIT */
#include "format/xattr_name.h"

#include <string.h>

#define XATTR_PREFIX_TRUSTED "trusted.overlay."
#define XATTR_PREFIX_USER "user.overlay."
#define XATTR_ESCAPE "overlay."

static const char *const xattr_prefixes[] = {
	[XATTR_TRUSTED] = XATTR_PREFIX_TRUSTED,
	[XATTR_USER] = XATTR_PREFIX_USER,
};

#define XATTR_NAMES(name)                                    \
	{                                                    \
		[XATTR_TRUSTED] = XATTR_PREFIX_TRUSTED name, \
		[XATTR_USER] = XATTR_PREFIX_USER name,       \
	}

static const char *const xattr_names[XATTR_PRIVATE_COUNT][2] = {
	[XATTR_OPAQUE] = XATTR_NAMES("opaque"),	     [XATTR_WHITEOUT] = XATTR_NAMES("whiteout"),
	[XATTR_REDIRECT] = XATTR_NAMES("redirect"),  [XATTR_METACOPY] = XATTR_NAMES("metacopy"),
	[XATTR_ORIGIN] = XATTR_NAMES("origin"),	     [XATTR_IMPURE] = XATTR_NAMES("impure"),
	[XATTR_NLINK] = XATTR_NAMES("nlink"),	     [XATTR_UPPER] = XATTR_NAMES("upper"),
	[XATTR_UUID] = XATTR_NAMES("uuid"),	     [XATTR_PROTATTR] = XATTR_NAMES("protattr"),
	[XATTR_TIMES] = XATTR_NAMES("veneer.times"), [XATTR_OWNER] = XATTR_NAMES("veneer.owner"),
	[XATTR_ASIDE] = XATTR_NAMES("veneer.aside"),
};

const char *xattr_private_name(enum xattr_namespace ns, enum xattr_private which)
{
	return xattr_names[which][ns];
}

/* What follows @prefix in @string, or NULL if it does not begin with it. */
static const char *xattr_after(const char *string, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(string, prefix, length) == 0 ? string + length : NULL;
}

bool xattr_name_is_private(enum xattr_namespace ns, const char *key)
{
	const char *rest = xattr_after(key, xattr_prefixes[ns]);

	return rest && !xattr_after(rest, XATTR_ESCAPE);
}

const char *xattr_name_escape(enum xattr_namespace ns, const char *key, char buf[XATTR_KEY_MAX + 1])
{
	const char *rest = xattr_after(key, xattr_prefixes[ns]);
	size_t prefix, escape = strlen(XATTR_ESCAPE);

	if (!rest)
		return key;
	prefix = (size_t)(rest - key);
	if (prefix + escape + strlen(rest) > XATTR_KEY_MAX)
		return NULL;
	memcpy(buf, key, prefix);
	memcpy(buf + prefix, XATTR_ESCAPE, escape);
	strcpy(buf + prefix + escape, rest);
	return buf;
}

/* Copies the visible form of @key (@size bytes with the NUL) to @to; returns its size or 0. */
static size_t xattr_show(enum xattr_namespace ns, char *to, const char *key, size_t size)
{
	const char *rest = xattr_after(key, xattr_prefixes[ns]);
	const char *escaped = rest ? xattr_after(rest, XATTR_ESCAPE) : NULL;
	size_t prefix;

	if (!rest) {
		memmove(to, key, size);
		return size;
	}
	if (!escaped)
		return 0;
	prefix = (size_t)(rest - key);
	memmove(to, key, prefix);
	memmove(to + prefix, escaped, size - (size_t)(escaped - key));
	return size - strlen(XATTR_ESCAPE);
}

size_t xattr_list_filter(enum xattr_namespace ns, char *list, size_t size)
{
	size_t from = 0, to = 0;

	while (from < size) {
		size_t length = strnlen(list + from, size - from);

		/* A name without its NUL is no name: the list is damaged from here on. */
		if (from + length == size)
			break;
		to += xattr_show(ns, list + to, list + from, length + 1);
		from += length + 1;
	}
	return to;
}
