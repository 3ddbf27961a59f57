/* SPDX-License-Identifier: MIT */
#include "tools/export_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "sys/file.h"

#define EXPORT_OUTPUT_MODE 0666

static int export_output_stdout(struct export_output *output, struct strbuf *why)
{
	if (isatty(STDOUT_FILENO)) {
		strbuf_append_string(why, "an archive is nothing for a terminal: name a file with "
					  "-o, or send it into a pipe");
		return -EINVAL;
	}
	output->fd = sys_dup(STDOUT_FILENO);
	return output->fd < 0 ? output->fd : 0;
}

/* Beside the file, on the same file system, under a name that nobody looks for. */
static int export_output_beside(const char *path, struct export_output *output)
{
	_cleanup_free_ char *copy = strdup(path);
	char *slash = copy ? strrchr(copy, '/') : NULL;

	if (!copy)
		return -ENOMEM;
	output->name = strdup(slash ? slash + 1 : copy);
	if (slash)
		slash[slash == copy] = '\0';
	if (!output->name ||
	    asprintf(&output->temporary, ".%.200s.%d.part", output->name, getpid()) < 0) {
		output->temporary = NULL;
		return -ENOMEM;
	}
	output->parent = sys_open_path(slash ? copy : ".", O_RDONLY | O_DIRECTORY);
	if (output->parent < 0)
		return output->parent;
	output->fd = sys_open(output->parent, output->temporary, O_CREAT | O_EXCL | O_WRONLY,
			      EXPORT_OUTPUT_MODE);
	return output->fd < 0 ? output->fd : 0;
}

int export_output_open(const char *path, struct export_output *output, struct strbuf *why)
{
	struct statx st;
	int r;

	*output = EXPORT_OUTPUT_INIT;
	if (!path)
		return export_output_stdout(output, why);
	_cleanup_close_ int fd = sys_open_path(path, O_PATH);

	r = fd < 0 ? fd : sys_stat(fd, "", &st);
	if (r == 0 && S_ISDIR(st.stx_mode))
		r = -EISDIR;
	else if (r == 0 && !S_ISREG(st.stx_mode))
		r = output->fd = sys_open_path(path, O_WRONLY);
	else if (r == 0 || r == -ENOENT)
		r = export_output_beside(path, output);
	if (r < 0)
		strbuf_append_format(why, "-o %s: %s", path, strerror(-r));
	return r < 0 ? r : 0;
}

int export_output_finish(struct export_output *output)
{
	int r = 0;

	if (output->temporary) {
		r = sys_fsync(output->fd, false);
		if (r == 0)
			r = sys_rename(output->parent, output->temporary, output->parent,
				       output->name, 0);
	}
	if (r == 0) {
		free(output->temporary);
		output->temporary = NULL;
	}
	return r;
}

void export_output_deinit(struct export_output *output)
{
	if (output->temporary && output->fd >= 0)
		sys_unlink(output->parent, output->temporary);
	cleanup_close(&output->fd);
	cleanup_close(&output->parent);
	free(output->name);
	free(output->temporary);
	*output = EXPORT_OUTPUT_INIT;
}
