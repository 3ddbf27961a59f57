/* SPDX-License-Identifier: MIT */
/*
 * Names of the private extended attributes and their escaping (kernel
 * fs/overlayfs/xattrs.c; docs/format.md "Extended attributes").
 *
 * On disk `<ns>overlay.<x>` is the format's own, and an attribute a user sets
 * under that very name through the mount is stored one level deeper, as
 * `<ns>overlay.overlay.<x>`.  Only the active namespace is escaped.
 */
#ifndef VENEER_FORMAT_XATTR_NAME_H
#define VENEER_FORMAT_XATTR_NAME_H

#include <stdbool.h>
#include <stddef.h>

enum xattr_namespace {
	XATTR_TRUSTED, /* "trusted.overlay." */
	XATTR_USER, /* "user.overlay.", mount option userxattr */
};

enum xattr_private {
	XATTR_OPAQUE,
	XATTR_WHITEOUT,
	XATTR_REDIRECT,
	XATTR_METACOPY,
	XATTR_ORIGIN,
	XATTR_IMPURE,
	XATTR_NLINK,
	XATTR_UPPER,
	XATTR_UUID,
	XATTR_PROTATTR,
	XATTR_TIMES,
	XATTR_OWNER,
	XATTR_ASIDE,
	XATTR_PRIVATE_COUNT,
};

#define XATTR_KEY_MAX 255 /* Linux XATTR_NAME_MAX, without the NUL */

/* Full name of a private attribute, a constant string. */
const char *xattr_private_name(enum xattr_namespace ns, enum xattr_private which);
/* True for `<ns>overlay.<x>` with any x that is not itself escaped. */
bool xattr_name_is_private(enum xattr_namespace ns, const char *key);
/*
 * On-disk name of what a user calls @key, into @buf (of XATTR_KEY_MAX + 1).
 * Returns @key itself if nothing is to be done, or NULL if the escaped name is too long
 * (the caller answers -EOPNOTSUPP).
 */
const char *xattr_name_escape(enum xattr_namespace ns, const char *key,
			      char buf[XATTR_KEY_MAX + 1]);
/*
 * Turns a listxattr result into what a user may see, in place: private names left out, escaped
 * ones unescaped by one level. Returns the new size.
 */
size_t xattr_list_filter(enum xattr_namespace ns, char *list, size_t size);

#endif
