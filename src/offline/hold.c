/* SPDX-License-Identifier: MIT */
#include "offline/hold.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "sys/dir.h"
#include "sys/file.h"

#define HOLD_PATH_MAX 64
#define HOLD_NAMESPACES_MAX 256

void hold_deinit(struct hold *hold)
{
	cleanup_close(&hold->upper);
	cleanup_close(&hold->work);
	*hold = HOLD_INIT;
}

/* ---- mounts of the kernel's overlayfs ---- */

/* The search through the tables. */
struct hold_search {
	const struct statx *upper;
	uint64_t seen[HOLD_NAMESPACES_MAX]; /* mount namespaces that were read */
	unsigned int seen_count;
	struct strbuf point; /* where it is mounted; empty: not found */
};

/* In place: \NNN as the mount table has it, then \C as overlayfs has it. */
static void hold_unescape(char *text, bool octal)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		unsigned int code;

		if (octal && from[0] == '\\' && sscanf(from + 1, "%3o", &code) == 1) {
			*to = (char)code;
			from += 4;
		} else {
			from += !octal && from[0] == '\\' && from[1];
			*to = *from++;
		}
	}
	*to = '\0';
}

/* The value of upperdir= among the options, which it cuts up; NULL: none. */
static char *hold_upperdir(char *options)
{
	static const char key[] = "upperdir=";
	char *value = strstr(options, key);

	while (value && value != options && value[-1] != ',')
		value = strstr(value + 1, key);
	if (!value)
		return NULL;
	value += strlen(key);
	char *end = value;

	while (*end && *end != ',' && *end != '\n')
		end += end[0] == '\\' && end[1] ? 2 : 1;
	*end = '\0';
	hold_unescape(value, true);
	hold_unescape(value, false);
	return value;
}

/* One line of a mount table, of the process @pid. */
static int hold_check_line(struct hold_search *search, const char *pid, char *line)
{
	static const char type[] = " - overlay ";
	char *rest = strstr(line, type);
	char *upper = rest ? hold_upperdir(rest + strlen(type)) : NULL;
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	struct statx st;
	char point[4096];

	if (!upper)
		return 0;
	strbuf_append_format(&path, "/proc/%s/root/%s", pid, upper);
	if (path.failed)
		return -ENOMEM;
	/* A path from where the mounter stood cannot be told. */
	if (upper[0] != '/' || sys_stat(AT_FDCWD, path.data, &st) < 0 ||
	    st.stx_ino != search->upper->stx_ino ||
	    sys_stat_dev(&st) != sys_stat_dev(search->upper))
		return 0;
	if (sscanf(line, "%*s %*s %*s %*s %4095s", point) == 1) {
		hold_unescape(point, true);
		strbuf_append_string(&search->point, point);
	}
	return 1;
}

/* True if another process in the same namespace was asked before. */
static bool hold_has_seen(struct hold_search *search, const char *pid)
{
	char path[HOLD_PATH_MAX];
	struct statx st;

	snprintf(path, sizeof(path), "/proc/%.20s/ns/mnt", pid);
	_cleanup_close_ int fd = sys_open_path(path, O_PATH | O_CLOEXEC);

	if (fd < 0 || sys_stat(fd, "", &st) < 0)
		return true; /* not ours to look at */
	for (unsigned int i = 0; i < search->seen_count; i++)
		if (search->seen[i] == st.stx_ino)
			return true;
	if (search->seen_count < HOLD_NAMESPACES_MAX)
		search->seen[search->seen_count++] = st.stx_ino;
	return false;
}

static int hold_check_process(const struct sys_dirent *entry, void *context)
{
	struct hold_search *search = context;
	char path[HOLD_PATH_MAX];
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;
	int r = 0;

	if (!isdigit((unsigned char)entry->name[0]) || hold_has_seen(search, entry->name))
		return 0;
	snprintf(path, sizeof(path), "/proc/%.20s/mountinfo", entry->name);
	_cleanup_fclose_ FILE *file = fopen(path, "re");

	while (r == 0 && file && getline(&line, &capacity, file) > 0)
		r = hold_check_line(search, entry->name, line);
	return r;
}

/* 1 if a kernel overlay has @upper as its upper; *@point: where. */
static int hold_find_overlay(const struct statx *upper, struct strbuf *point)
{
	struct hold_search search = { .upper = upper };
	_cleanup_close_ int proc = sys_open_path("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = proc < 0 ? 0 : sys_dir_for_each(proc, hold_check_process, &search);

	*point = search.point;
	return r;
}

/* ---- locks ---- */

/* Some network file systems lock only what is open for writing, which no directory is. */
static bool hold_has_no_locks(int r)
{
	return r == -EBADF || r == -ENOLCK || r == -EOPNOTSUPP || r == -ENOSYS;
}

static int hold_lock(const char *path, bool is_layer, int *fdp, struct strbuf *why)
{
	_cleanup_close_ int fd = sys_open_path(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? fd : sys_flock_exclusive(fd);

	if (fd >= 0 && !is_layer && hold_has_no_locks(r))
		r = 0;

	if (r == -EWOULDBLOCK) {
		strbuf_append_format(why,
				     "%s is in use by a mount of veneer or by another command: "
				     "unmount it first, or wait until that is done",
				     path);
		return -EBUSY;
	}
	if (r < 0)
		strbuf_append_format(why, "%s: %s", path, strerror(-r));
	else
		*fdp = fd_take(&fd);
	return r;
}

/* -EBUSY if a kernel overlay writes into it. */
static int hold_check_overlay(int fd, const char *path, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf point = STRBUF_INIT;
	struct statx st;
	int r = sys_stat(fd, "", &st);

	if (r == 0)
		r = hold_find_overlay(&st, &point);
	if (r <= 0)
		return r;
	strbuf_append_format(why, "%s is the upper of the overlay at %s: unmount it first", path,
			     point.length ? point.data : "(somewhere)");
	return -EBUSY;
}

int hold_take(const char *upper, const char *work, struct hold *hold, struct strbuf *why)
{
	*hold = HOLD_INIT;
	int r = hold_lock(upper, true, &hold->upper, why);

	if (r == 0 && work)
		r = hold_lock(work, true, &hold->work, why);
	return r < 0 ? r : hold_check_overlay(hold->upper, upper, why);
}

int hold_take_dest(const char *dest, struct hold *hold, struct strbuf *why)
{
	*hold = HOLD_INIT;
	int r = hold_lock(dest, false, &hold->upper, why);

	return r < 0 ? r : hold_check_overlay(hold->upper, dest, why);
}
