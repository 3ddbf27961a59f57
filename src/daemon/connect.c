/* SPDX-License-Identifier: MIT */
#include "daemon/connect.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "sys/cpu.h"
#include "sys/module.h"

#define CONNECT_MODULE "fuse"
#define CONNECT_PARAMETER "enable_uring"
#define CONNECT_SWITCH "/sys/module/" CONNECT_MODULE "/parameters/" CONNECT_PARAMETER

static int connect_refuse(struct strbuf *why, const char *reason)
{
	strbuf_append_format(why, "io_uring=on: %s", reason);
	return why->failed ? -ENOMEM : -ENOTSUP;
}

int connect_check(const struct options *options, struct strbuf *why)
{
	int enabled, r;

	if (options->io_uring != OPTIONS_URING_ON)
		return 0;
	if (!fuse_has_uring())
		return connect_refuse(why, "this veneer was built without liburing");
	enabled = sys_module_get_flag(CONNECT_MODULE, CONNECT_PARAMETER);
	if (enabled < 0)
		return connect_refuse(why,
				      "FUSE takes requests over io_uring since Linux 6.14 only");
	if (enabled)
		return 0;
	r = sys_module_set_flag(CONNECT_MODULE, CONNECT_PARAMETER, true);
	if (r < 0)
		return connect_refuse(why, "the kernel has it switched off; root can change that: "
					   "echo Y > " CONNECT_SWITCH);
	log_info("io_uring=on: switched on for this system (" CONNECT_SWITCH ")");
	return 0;
}

/* Why requests do not come over io_uring; NULL: they do. */
static const char *connect_why_not(const struct options *options)
{
	int enabled;

	if (options->io_uring == OPTIONS_URING_OFF)
		return "the option io_uring=off asks for it";
	if (!fuse_has_uring())
		return "this veneer was built without liburing";
	if (sys_cpu_possible() == 0)
		return "the processors of this system are not numbered as io_uring needs it";
	enabled = sys_module_get_flag(CONNECT_MODULE, CONNECT_PARAMETER);
	if (enabled < 0)
		return "FUSE takes requests over io_uring since Linux 6.14 only";
	return enabled ? NULL :
			 "the kernel has io_uring switched off for FUSE (" CONNECT_SWITCH ")";
}

int connect_new(const struct options *options, struct fuse_session *session,
		const struct fuse_dev_config *config, struct connect *connect)
{
	connect->why = connect_why_not(options);
	if (connect->why)
		return fuse_dev_new(session, config, &connect->transport);
	connect->why =
		options->io_uring == OPTIONS_URING_ON ?
			"the option io_uring=on asks for it" :
			"the kernel has io_uring switched on for FUSE: a round trip stays on "
			"the caller's processor";
	return fuse_uring_new(session, config, &connect->transport);
}
