/* SPDX-License-Identifier: MIT */
/* Paths of layers at rest. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "offline/apply_internal.h"
#include "sys/file.h"

int apply_fail(struct apply *apply, int error, const char *format, ...)
{
	char text[PATH_MAX + 512];
	va_list args;

	if (apply->why->length > 0)
		return error;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	strbuf_append_string(apply->why, text);
	return error;
}

int apply_fail_path(struct apply *apply, int error, const char *doing, const char *path)
{
	return apply_fail(apply, error, "cannot %s %s: %s", doing, *path ? path : "the root",
			  strerror(-error));
}

char *apply_join(const char *directory, const char *name)
{
	char *path;

	if (!*directory)
		return strdup(name);
	return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

int apply_copy_path(const char *path, char **copy)
{
	*copy = path ? strdup(path) : NULL;
	return path && !*copy ? -ENOMEM : 0;
}

const char *apply_basename(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

char *apply_parent(const char *path)
{
	const char *name = apply_basename(path);

	return name == path ? strdup("") : strndup(path, (size_t)(name - path) - 1);
}

/* The longest part of @path, whole components, that one call takes. */
static size_t apply_chunk(const char *path)
{
	size_t length = strlen(path);

	if (length < PATH_MAX)
		return length;
	for (length = PATH_MAX - 1; length > 0 && path[length] != '/';)
		length--;
	return length;
}

int apply_open_at(int rootfd, const char *path, int flags)
{
	char part[PATH_MAX];
	_cleanup_close_ int held = -1;
	int fd = rootfd;

	if (!*path)
		return sys_open(rootfd, ".", flags, 0);
	for (;;) {
		size_t length = apply_chunk(path);

		if (length == 0)
			return -ENAMETOOLONG;
		memcpy(part, path, length);
		part[length] = '\0';
		path += length;
		bool is_last = !*path;
		int next = sys_open(fd, part, is_last ? flags : O_PATH | O_DIRECTORY, 0);

		if (next < 0 || is_last)
			return next;
		if (held >= 0)
			close(held);
		held = fd = next;
		path++;
	}
}

int apply_open_dir(int rootfd, const char *path)
{
	return apply_open_at(rootfd, path, O_RDONLY | O_DIRECTORY);
}

int apply_open_parent(int rootfd, const char *path, const char **name)
{
	_cleanup_free_ char *parent = apply_parent(path);

	if (!parent)
		return -ENOMEM;
	*name = apply_basename(path);
	return apply_open_dir(rootfd, parent);
}

void apply_place_deinit(struct apply_place *place)
{
	free(place->source);
	free(place->below);
	*place = APPLY_PLACE_INIT;
}
