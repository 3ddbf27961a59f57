/* SPDX-License-Identifier: MIT */
#include "tools/run_sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "offline/layerfile.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "tools/run_layer.h"
#include "tools/run_remove.h"

/* Nobody wants it, as far as its description tells. */
static bool run_sweep_is_waste(const char *directory)
{
	_cleanup_strbuf_ struct strbuf ignored = STRBUF_INIT;
	_cleanup_layerfile_ struct layerfile file = LAYERFILE_INIT;
	const struct run_layer layer = { .directory = (char *)directory, .lock_fd = -1 };

	if (layerfile_read(directory, &file, &ignored) < 0)
		return false;
	return file.is_discarded || (file.is_temporary && run_layer_is_empty(&layer));
}

/* A daemon that outlives its run has a lock on the upper. */
static int run_sweep_lock(int dirfd, const char *name)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_RDONLY, 0);
	int r = fd < 0 ? fd : sys_flock_exclusive(fd);

	return r < 0 ? r : fd_take(&fd);
}

static int run_sweep_visit(const struct sys_dirent *entry, void *context)
{
	const char *state = context;
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;

	strbuf_append_format(&path, "%s/%s", state, entry->name);
	if (path.failed)
		return -ENOMEM;
	/* Without a lock first: who looks at one that is in use would be in the way. */
	if (!run_sweep_is_waste(path.data))
		return 0;
	_cleanup_close_ int dirfd = sys_open_path(path.data, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int lock = dirfd < 0 ? dirfd : run_sweep_lock(dirfd, RUN_LAYER_LOCK);
	_cleanup_close_ int upper = lock < 0 ? lock : run_sweep_lock(dirfd, LAYERFILE_UPPER);

	/* Somebody may have had it, and given it a name. */
	if (upper >= 0 && run_sweep_is_waste(path.data))
		run_remove_tree(path.data);
	return 0;
}

void run_sweep(const char *state)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	_cleanup_close_ int fd = sys_open_path(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	strbuf_append_string(&path, state);
	if (fd >= 0 && !path.failed)
		sys_dir_for_each(fd, run_sweep_visit, path.data);
}
