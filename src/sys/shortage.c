/* SPDX-License-Identifier: MIT */
#include "sys/shortage.h"

#include <errno.h>
#include <stddef.h>

#include "sys/call.h"

/* The limit on descriptors is the process's, so this is, too. */
static struct {
	sys_make_room_fn make_room;
	void *context;
} shortage;

void sys_shortage_set(sys_make_room_fn make_room, void *context)
{
	shortage.make_room = make_room;
	shortage.context = context;
}

void sys_shortage_clear(const void *context)
{
	if (shortage.context == context)
		sys_shortage_set(NULL, NULL);
}

bool sys_made_room(long r)
{
	return (r == -EMFILE || r == -ENFILE) && shortage.make_room &&
	       shortage.make_room(shortage.context);
}
