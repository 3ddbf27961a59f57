/* SPDX-License-Identifier: MIT */
/*
 * A growing byte string, always NUL-terminated.  An allocation failure is
 * remembered: append freely, then check `failed` once.
 */
#ifndef VENEER_BASE_STRBUF_H
#define VENEER_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

struct strbuf {
	char *data; /* NULL while empty */
	size_t length, capacity;
	bool failed;
};

#define STRBUF_INIT ((struct strbuf){ 0 })

void strbuf_deinit(struct strbuf *buf);
void strbuf_append(struct strbuf *buf, const void *data, size_t size);
void strbuf_append_string(struct strbuf *buf, const char *string);
void strbuf_append_format(struct strbuf *buf, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The string, which the caller now owns; NULL if an allocation failed. Empties @buf. */
char *strbuf_take(struct strbuf *buf);

#define _cleanup_strbuf_ _cleanup_(strbuf_deinit)

#endif
