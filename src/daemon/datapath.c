/* SPDX-License-Identifier: MIT */
#include "daemon/datapath.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/mount.h>

#include "base/util.h"
#include "sys/creds.h"

static int datapath_open(void *context, int fd)
{
	const struct datapath *datapath = context;

	return fuse_backing_open(datapath->transport, fd);
}

static void datapath_close(void *context, int backing)
{
	const struct datapath *datapath = context;

	fuse_backing_close(datapath->transport, backing);
}

/* As FUSE_DEV_IOC_BACKING_OPEN has it. */
static bool datapath_may_pass(void)
{
	return sys_creds_is_initial_userns() && sys_creds_has_cap(CAP_SYS_ADMIN);
}

static int datapath_refuse(struct strbuf *why, int error, const char *reason)
{
	strbuf_append_string(why, "data=passthrough: ");
	strbuf_append_string(why, reason);
	return why->failed ? -ENOMEM : error;
}

/* Why data is served; NULL: it need not be. */
static const char *datapath_why_served(const struct options *options, const struct core *core,
				       bool may, bool keeps)
{
	if (options->data == OPTIONS_DATA_SERVED)
		return "the option data=served asks for it";
	if (options->data == OPTIONS_DATA_PASSTHROUGH)
		return NULL;
	if (!may)
		return "the kernel lets only root of the initial user namespace pass files through";
	if (!keeps)
		return "layers may change, and data would go past what notices that";
	if (core_is_read_only(core))
		return "opening a file takes no request then, and nothing is written here";
	if (options->mount_flags & MS_NOATIME)
		return "noatime: reading would go past what keeps access times";
	return NULL;
}

int datapath_init(struct datapath *datapath, const struct options *options, struct core *core,
		  struct ops *ops, struct strbuf *why)
{
	bool keeps = !options->layers_change, may = datapath_may_pass();

	if (options->data == OPTIONS_DATA_PASSTHROUGH && !may)
		return datapath_refuse(why, -EPERM,
				       "the kernel lets only root of the initial user namespace");
	if (options->data == OPTIONS_DATA_PASSTHROUGH && !keeps)
		return datapath_refuse(why, -EINVAL,
				       "not with timeout=: data goes past what notices changes");
	if (options->data == OPTIONS_DATA_PASSTHROUGH && options->mount_flags & MS_NOATIME)
		return datapath_refuse(
			why, -EINVAL,
			"not with noatime: reading goes past what keeps access times");
	/* What is read past us changes access times as the upper's mount has it. Of a read-only union
	 * more is gained by not asking about opens, unless somebody thinks of the page cache, which
	 * all mounts of a layer then share. */
	datapath->why = datapath_why_served(options, core, may, keeps);
	datapath->is_passthrough = !datapath->why;
	if (datapath->is_passthrough)
		datapath->why =
			options->data == OPTIONS_DATA_PASSTHROUGH ?
				"the option data=passthrough asks for it" :
				"the kernel lets root pass files of the upper through, which "
				"is fastest where data is written";
	datapath->backing = (struct core_backing){
		.open = datapath_open,
		.close = datapath_close,
		.context = datapath,
	};
	if (datapath->is_passthrough)
		core_set_backing(core, &datapath->backing);
	ops->open_flags = keeps ? FOPEN_KEEP_CACHE : 0;
	/* What appears in a layer is no name that the kernel could be told to forget. */
	ops->caches_dirs = keeps && !options->watch;
	/* With allow_root others are refused what opens something, and so must be asked about. */
	ops->is_openless = !datapath->is_passthrough && keeps && !options->allow_root &&
			   core_can_reopen(core);
	if (ops->is_openless)
		core_do_without_open(core);
	return 0;
}

unsigned int datapath_depth(const struct datapath *datapath, const struct core *core)
{
	if (!datapath->is_passthrough)
		return 0;
	return core_passes_stacked(core) ? 2 : 1;
}
