/* SPDX-License-Identifier: MIT */
#include "sys/module.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"

static int module_open(const char *module, const char *parameter, int flags)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, parameter) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	return sys_retry_fd(open(path, flags | O_CLOEXEC));
}

int sys_module_get_flag(const char *module, const char *parameter)
{
	_cleanup_close_ int fd = module_open(module, parameter, O_RDONLY);
	char value;
	int r;

	if (fd < 0)
		return fd;
	r = (int)sys_retry(read(fd, &value, 1));
	if (r < 0)
		return r;
	if (r == 0 || (value != 'Y' && value != 'N'))
		return -EINVAL;
	return value == 'Y';
}

int sys_module_set_flag(const char *module, const char *parameter, bool value)
{
	_cleanup_close_ int fd = module_open(module, parameter, O_WRONLY);
	int r = fd;

	if (r >= 0)
		r = (int)sys_retry(write(fd, value ? "Y" : "N", 1));
	return r < 0 ? r : 0;
}
