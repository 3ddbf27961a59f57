/* SPDX-License-Identifier: MIT */
/*
 * How the absence of a name is written: a character device 0:0, a zero-size
 * regular file with the `whiteout` attribute (kernel overlayfs), and in lower
 * layers also ".wh.NAME" with ".wh..wh..opq" for an opaque directory (OCI
 * image layers, aufs).
 */
#ifndef VENEER_FORMAT_WHITEOUT_H
#define VENEER_FORMAT_WHITEOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#define WHITEOUT_PREFIX ".wh."
#define WHITEOUT_PREFIX_LENGTH 4
#define WHITEOUT_OPAQUE_NAME ".wh..wh..opq"

/* Character device with number 0:0. */
bool whiteout_is_device(mode_t mode, dev_t rdev);
/* May be an attribute whiteout (regular, empty): then the attribute decides. */
bool whiteout_may_be_xattr(mode_t mode, unsigned long long size);

enum whiteout_name {
	WHITEOUT_NAME_NONE, /* an ordinary name */
	WHITEOUT_NAME_HIDES, /* hides what follows the prefix */
	WHITEOUT_NAME_OPAQUE, /* the directory it lies in is opaque */
	WHITEOUT_NAME_META, /* other ".wh..wh." names (aufs housekeeping): shown to nobody */
};
enum whiteout_name whiteout_name_kind(const char *name);

/* Values of the opaque attribute. */
enum opaque_value {
	OPAQUE_NONE,
	OPAQUE_YES, /* "y": nothing below is merged */
	OPAQUE_XWHITEOUTS, /* "x": holds attribute whiteouts, merging goes on */
};
/* Unknown values are OPAQUE_NONE, as in the kernel. */
enum opaque_value opaque_parse(const char *value, size_t size);

#endif
