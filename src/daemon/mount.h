/* SPDX-License-Identifier: MIT */
/* Attaching the connection to a mount point, and taking it off again. */
#ifndef VENEER_DAEMON_MOUNT_H
#define VENEER_DAEMON_MOUNT_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/strbuf.h"
#include "daemon/options.h"

struct mount {
	char *target; /* absolute, without symbolic links; owned */
	unsigned int root_mode; /* of what lies there */
	int fd; /* the device, until mount_attach() hands it out */
	bool by_helper; /* fusermount3 makes the mount and must take it off */
	bool is_mounted;
	unsigned long long id; /* of the mount, once mount_remember() was called; 0: unknown */
	dev_t dev; /* of what is mounted, once mount_remember() was called; 0: unknown */
};

#define MOUNT_INIT ((struct mount){ .fd = -1 })

/*
 * Finds the mount point and, with the right to mount (CAP_SYS_ADMIN), opens the device; without
 * it fusermount3 will. Nothing is changed yet. Returns 0, or -errno with a sentence for the user
 * in @why. The mount must be deinitialised in any case.
 */
int mount_prepare(struct mount *mount, const char *mountpoint, struct strbuf *why);
/*
 * Mounts, as "fuse.veneer" from @source (NULL: "veneer"). @fd is the device, now the caller's.
 * As mount_prepare().
 */
int mount_attach(struct mount *mount, const struct options *options, const char *source, int *fd,
		 struct strbuf *why);
/* Once requests are served: so that nothing but this mount is ever taken off. */
void mount_remember(struct mount *mount);
/*
 * @detach: also if it is in use, which then goes on until the users are done. 0 or -errno;
 * -EBUSY: in use, or something else is mounted over it.
 */
int mount_detach(struct mount *mount, bool detach);
/* Writes back what the kernel holds of the mount's files. */
void mount_sync(const struct mount *mount);
void mount_deinit(struct mount *mount);

/* fusermount3: the device it got for us, mounted at @target; @options as after its -o. */
int fusermount_attach(const char *target, const char *options, int *fd, struct strbuf *why);
int fusermount_detach(const char *target, bool detach);

#endif
