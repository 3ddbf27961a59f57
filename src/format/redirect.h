/* SPDX-License-Identifier: MIT */
/* The redirect attribute: `name`, or an absolute path from the root of the union. */
#ifndef VENEER_FORMAT_REDIRECT_H
#define VENEER_FORMAT_REDIRECT_H

#include <stdbool.h>
#include <stddef.h>

#define REDIRECT_MAX 256 /* longest absolute redirect the kernel writes (redirect_max) */

/*
 * True if @size bytes at @value are a redirect by the kernel's grammar
 * (namei.c ovl_get_redirect_xattr): no empty component, no NUL, no trailing or
 * doubled slash; a relative one has no slash. "." and ".." are refused as well.
 */
bool redirect_is_valid(const char *value, size_t size);
bool redirect_is_absolute(const char *value);

/*
 * Walks the components of an absolute redirect: *@cursor starts at the string and moves on.
 * Returns the component's length and sets *@component, or 0 at the end.
 */
size_t redirect_next(const char **cursor, const char **component);

#endif
