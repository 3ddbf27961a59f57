/* SPDX-License-Identifier: MIT */
/* What a command works on: an upper, what it lies over, and how it is to be read. */
#ifndef VENEER_OFFLINE_TARGET_H
#define VENEER_OFFLINE_TARGET_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "core/core.h"
#include "format/lowerdir.h"
#include "format/xattr_name.h"

struct target {
	char *name; /* as the user called it; owned, as are the others */
	char *mount_point; /* of a live mount; NULL: a layer at rest */
	dev_t dev; /* st_dev of the live mount */
	char *directory; /* kept by `veneer run`, with a layer.json; NULL: not such a one */
	char *upper; /* NULL: a mount without one */
	char *work; /* NULL: not known */
	struct lowerdir_list lowers; /* top first; may be empty */
	enum xattr_namespace ns; /* of the upper */
	bool cross_mounts; /* what is mounted in the lowers belongs to them */
	struct timespec created; /* when the layer was begun; 0: not known */
};

#define TARGET_INIT ((struct target){ 0 })

void target_deinit(struct target *target);

#define _cleanup_target_ _cleanup_(target_deinit)

#endif
