/* SPDX-License-Identifier: MIT */
/*
 * File names as JSON.  A name is bytes and a JSON string is UTF-8: what is not
 * is shown with U+FFFD in its place, and told exactly beside it.
 */
#ifndef VENEER_FORMAT_JSONTEXT_H
#define VENEER_FORMAT_JSONTEXT_H

#include <jansson.h>

/*
 * Sets member @key of @object to @bytes; if they are not UTF-8 also member "@key_hex" to two
 * hexadecimal digits for each. NULL gives null. 0 or -ENOMEM.
 */
int jsontext_set(json_t *object, const char *key, const char *bytes);
/*
 * What jsontext_set() was given, into *@bytes, the caller's. 0, -ENOMEM, or -EINVAL: there is no such
 * member, or it holds a NUL.
 */
int jsontext_get(const json_t *object, const char *key, char **bytes);

#endif
