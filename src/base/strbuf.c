/* SPDX-License-Identifier: MIT */
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRBUF_CAPACITY_MIN 64

void strbuf_deinit(struct strbuf *buf)
{
	free(buf->data);
	*buf = STRBUF_INIT;
}

/* Makes room for @size more bytes and the NUL; false (and failed) if there is none. */
static bool strbuf_reserve(struct strbuf *buf, size_t size)
{
	size_t capacity = buf->capacity ? buf->capacity : STRBUF_CAPACITY_MIN;
	size_t needed;
	char *data;

	if (buf->failed)
		return false;
	if (__builtin_add_overflow(buf->length, size, &needed) ||
	    __builtin_add_overflow(needed, 1, &needed)) {
		buf->failed = true;
		return false;
	}
	if (needed <= buf->capacity)
		return true;
	while (capacity < needed) {
		if (__builtin_mul_overflow(capacity, 2, &capacity))
			capacity = needed;
	}
	data = realloc(buf->data, capacity);
	if (!data) {
		buf->failed = true;
		return false;
	}
	buf->data = data;
	buf->capacity = capacity;
	return true;
}

void strbuf_append(struct strbuf *buf, const void *data, size_t size)
{
	if (!strbuf_reserve(buf, size))
		return;
	if (size > 0)
		memcpy(buf->data + buf->length, data, size);
	buf->length += size;
	buf->data[buf->length] = '\0';
}

void strbuf_append_string(struct strbuf *buf, const char *string)
{
	strbuf_append(buf, string, strlen(string));
}

void strbuf_append_format(struct strbuf *buf, const char *format, ...)
{
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (size < 0) {
		buf->failed = true;
		return;
	}
	if (!strbuf_reserve(buf, (size_t)size))
		return;
	va_start(args, format);
	vsnprintf(buf->data + buf->length, (size_t)size + 1, format, args);
	va_end(args);
	buf->length += (size_t)size;
}

char *strbuf_take(struct strbuf *buf)
{
	char *data = NULL;

	if (strbuf_reserve(buf, 0)) {
		data = buf->data;
		data[buf->length] = '\0';
		buf->data = NULL;
	}
	strbuf_deinit(buf);
	return data;
}
