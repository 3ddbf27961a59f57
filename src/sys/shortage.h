/* SPDX-License-Identifier: MIT */
/*
 * What to do when there are no descriptors left.
 *
 * A program that keeps descriptors as a cache can give some back.  Every call
 * of this room that makes a descriptor asks for that before it fails.
 */
#ifndef VENEER_SYS_SHORTAGE_H
#define VENEER_SYS_SHORTAGE_H

#include <stdbool.h>

/* Closes descriptors that can be opened again; false if there was none. Called in any thread
 * that met -EMFILE or -ENFILE, with whatever locks its caller holds. */
typedef bool (*sys_make_room_fn)(void *context);

/* From now on @make_room(@context) is asked; before there are threads. */
void sys_shortage_set(sys_make_room_fn make_room, void *context);
/* No longer, if it is still @context that is asked; after the threads. */
void sys_shortage_clear(const void *context);

#endif
