/* SPDX-License-Identifier: MIT */
/*
 * One path component, shared by reference: the name of a node, of its place in
 * a layer, of a directory in a layer.  Immutable.  Any byte but '/' and NUL.
 */
#ifndef VENEER_BASE_NAME_H
#define VENEER_BASE_NAME_H

#include <stdint.h>

struct name {
	_Atomic uint32_t refs;
	uint16_t length; /* without the NUL */
	char text[];
};

/* A new name with one reference, or NULL when out of memory. @length <= 65535. */
struct name *name_new(const char *text, uint16_t length);
struct name *name_ref(struct name *name);
/* Gives up one reference; returns NULL. */
struct name *name_unref(struct name *name);

#endif
