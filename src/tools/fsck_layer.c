/* SPDX-License-Identifier: MIT */
#include "tools/fsck_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "offline/view.h"
#include "sys/creds.h"
#include "sys/file.h"
#include "sys/handle.h"

/* Appends the sentence and returns the errno it explains. */
#define fsck_layer_refuse(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

static int fsck_layer_open_lower(struct fsck *fsck, const char *path, struct strbuf *why)
{
	struct fsck_lower *lower = &fsck->lowers[fsck->lower_count];
	struct sys_handle handle;

	lower->fd = sys_open_path(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lower->fd < 0)
		return fsck_layer_refuse(why, lower->fd, "%s: %s", path, strerror(-lower->fd));
	fsck->lower_count++;
	lower->has_uuid = sys_fs_uuid(lower->fd, lower->uuid) == 0;
	lower->has_handles = sys_handle_get(lower->fd, "", &handle) == 0;
	return 0;
}

static int fsck_layer_open_lowers(struct fsck *fsck, struct strbuf *why)
{
	const struct lowerdir_list *list = &fsck->target.lowers;
	int r = 0;

	fsck->lowers = calloc(list->count, sizeof(*fsck->lowers));
	if (!fsck->lowers)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < list->count; i++)
		r = fsck_layer_open_lower(fsck, list->items[i].path, why);
	fsck->can_open_handles = sys_creds_is_initial_userns() &&
				 sys_creds_has_cap(CAP_DAC_READ_SEARCH);
	return r < 0 ? r : view_open(&fsck->target, VIEW_LOWERS, &fsck->below, why);
}

static int fsck_layer_check_target(const struct target *target, struct strbuf *why)
{
	if (target->mount_point)
		return fsck_layer_refuse(why, -EBUSY,
					 "%s is mounted at %s: unmount it first, and name its "
					 "directory",
					 target->name, target->mount_point);
	if (target->lowers.count == 0)
		return fsck_layer_refuse(why, -EINVAL,
					 "%s: what does it lie over? Without that nothing can be "
					 "judged (--lower DIR[:DIR...])",
					 target->name);
	return 0;
}

int fsck_layer_open(struct fsck *fsck, struct strbuf *why)
{
	struct target *target = &fsck->target;
	struct statx st;
	int r = fsck_layer_check_target(target, why);

	fsck->work_fd = fsck->upper_fd = -1;
	if (r == 0)
		r = hold_take(target->upper, target->work, &fsck->hold, why);
	if (r == 0)
		r = fsck_layer_open_lowers(fsck, why);
	if (r < 0)
		return r;
	fsck->upper_fd = fsck->hold.upper;
	fsck->work_fd = fsck->hold.work;
	r = sys_stat(fsck->upper_fd, "", &st);
	fsck->dev = sys_stat_dev(&st);
	return r;
}

void fsck_layer_close(struct fsck *fsck)
{
	if (fsck->below)
		core_free(fsck->below);
	for (size_t i = 0; i < fsck->lower_count; i++)
		close(fsck->lowers[i].fd);
	free(fsck->lowers);
	free(fsck->indexed);
	fsck_claims_clear(&fsck->claims);
	fsck_set_clear(&fsck->origins);
	hold_deinit(&fsck->hold);
}

void fsck_settle(struct fsck *fsck, int result)
{
	fsck_report_settle(&fsck->report, result);
	fsck->has_changed |= result == 0;
}
