/* SPDX-License-Identifier: MIT */
#include "offline/target.h"

#include <stdlib.h>

void target_deinit(struct target *target)
{
	free(target->name);
	free(target->mount_point);
	free(target->directory);
	free(target->upper);
	free(target->work);
	lowerdir_list_deinit(&target->lowers);
	*target = TARGET_INIT;
}
