/* SPDX-License-Identifier: MIT */
/* Parameters of kernel modules: /sys/module/NAME/parameters/. */
#ifndef VENEER_SYS_MODULE_H
#define VENEER_SYS_MODULE_H

#include <stdbool.h>

/* 1 or 0 (Y or N); -ENOENT: this kernel has no such parameter; -EINVAL: it is no such value. */
int sys_module_get_flag(const char *module, const char *parameter);
/* 0 or -errno (-EACCES, -EPERM, -EROFS: not for us to set). */
int sys_module_set_flag(const char *module, const char *parameter, bool value);

#endif
