/* SPDX-License-Identifier: MIT */
/*
 * What stays in the upper when it is emptied.
 *
 * A redirect of what is kept leads to a path of the lowers that something in the
 * upper hides: a whiteout, which is kept as well, or what took its place, without
 * which the lowers would show there what is also kept elsewhere.
 */
#include "core/discard_kept.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/internal.h"
#include "core/probe.h"
#include "format/redirect.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/xattr.h"

/* ---- paths ---- */

void discard_kept_deinit(struct discard_kept *kept)
{
	for (size_t i = 0; i < kept->count; i++)
		free(kept->paths[i]);
	free(kept->paths);
	*kept = (struct discard_kept){ 0 };
}

/* "//a/./b/" as "a/b"; the caller's, NULL: out of memory. */
static char *discard_kept_tidy(const char *path)
{
	const char *component = "";
	char *tidy = malloc(strlen(path) + 1), *to = tidy;
	size_t length;

	while (tidy && (length = redirect_next(&path, &component)) > 0) {
		if (length == 1 && *component == '.')
			continue;
		if (to != tidy)
			*to++ = '/';
		to = mempcpy(to, component, length);
	}
	if (tidy)
		*to = '\0';
	return tidy;
}

int discard_kept_add(struct discard_kept *kept, const char *path)
{
	/* Room for one more in an array that grows by doubling. */
	if (!(kept->count & (kept->count - 1))) {
		size_t size = kept->count ? 2 * kept->count : 1;
		char **more = reallocarray(kept->paths, size, sizeof(*more));

		if (!more)
			return -ENOMEM;
		kept->paths = more;
	}
	_cleanup_free_ char *tidy = discard_kept_tidy(path);

	if (!tidy)
		return -ENOMEM;
	if (!*tidy)
		return -EINVAL;
	kept->paths[kept->count++] = ptr_take(tidy);
	return 0;
}

/* With what is above it, or by itself. */
static bool discard_kept_has(const struct discard_kept *kept, const char *path)
{
	for (size_t i = 0; i < kept->count; i++) {
		size_t length = strlen(kept->paths[i]);

		if (strncmp(path, kept->paths[i], length) == 0 &&
		    (path[length] == '/' || !path[length]))
			return true;
	}
	return false;
}

/* The caller's; NULL: out of memory. */
static char *discard_kept_join(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* ---- what is where something was ---- */

/* A look for what hides the sources of what is kept. */
struct kept_search {
	struct core *core;
	int upper_fd;
	struct discard_kept *kept;
	bool refuses; /* all whiteouts have been added: what else hides something is an error */
	struct strbuf *why;
};

enum kept_what {
	KEPT_NOTHING, /* the lowers show */
	KEPT_MERGED,
	KEPT_WHITEOUT,
	KEPT_OTHER, /* the lowers do not */
};

/* -ENODATA: there is none, or it says nothing; else its size. */
static ssize_t kept_read_redirect(const struct kept_search *search, int dirfd, const char *name,
				  char value[PATH_MAX])
{
	ssize_t size = sys_getxattr_at(dirfd, name, core_key(search->core, XATTR_REDIRECT), value,
				       PATH_MAX - 1);

	if (size < 0 || !redirect_is_valid(value, (size_t)size))
		return -ENODATA;
	value[size] = '\0';
	return size;
}

static bool kept_is_opaque(const struct kept_search *search, int dirfd, const char *name)
{
	char value[4];

	return sys_getxattr_at(dirfd, name, core_key(search->core, XATTR_OPAQUE), value,
			       sizeof(value)) == 1 &&
	       value[0] == 'y';
}

static bool kept_is_metacopy(const struct kept_search *search, int dirfd, const char *name)
{
	return sys_getxattr_at(dirfd, name, core_key(search->core, XATTR_METACOPY), NULL, 0) >= 0;
}

/* One that leads to where it is, as after a rename there and back, changes nothing. */
static bool kept_leads_elsewhere(const struct kept_search *search, const char *path)
{
	const char *slash = strrchr(path, '/');
	char value[PATH_MAX];

	if (kept_read_redirect(search, search->upper_fd, path, value) < 0)
		return false;
	return strcmp(*value == '/' ? value + 1 : value,
		      *value == '/' || !slash ? path : slash + 1) != 0;
}

/* What the upper has at @path, whose parents merge with the lowers. @type: of what was there. */
static int kept_look(const struct kept_search *search, const char *path, mode_t type,
		     enum kept_what *what)
{
	struct statx st;
	int r = sys_stat(search->upper_fd, path, &st);

	*what = KEPT_NOTHING;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (probe_is_whiteout(search->core, search->upper_fd, path, &st))
		*what = KEPT_WHITEOUT;
	else if (S_ISDIR(st.stx_mode))
		*what = kept_is_opaque(search, search->upper_fd, path) ||
					kept_leads_elsewhere(search, path) ?
				KEPT_OTHER :
				KEPT_MERGED;
	else /* another name of the same file shows it as well */
		*what = type == S_IFREG && kept_is_metacopy(search, search->upper_fd, path) ?
				KEPT_MERGED :
				KEPT_OTHER;
	return 0;
}

static int kept_refuse(const struct kept_search *search, const char *path, const char *source,
		       const char *at)
{
	if (!search->refuses)
		return 0;
	strbuf_append_format(search->why,
			     "%s cannot be kept by itself: it was renamed from %s, which would be "
			     "seen again without %s; keep that as well, or rename it back",
			     path, source, at);
	return -EINVAL;
}

/* What is kept at @path was once at @source in the lowers. */
static int kept_note_source(const struct kept_search *search, const char *path, const char *source,
			    mode_t type)
{
	_cleanup_free_ char *at = discard_kept_tidy(source);
	enum kept_what what = KEPT_MERGED;
	int r = at ? 0 : -ENOMEM;
	bool is_end = false;

	for (char *end = at; r == 0 && what == KEPT_MERGED && !is_end; end++) {
		end = strchrnul(end, '/');
		is_end = !*end;
		*end = '\0';
		if (discard_kept_has(search->kept, at))
			return 0;
		r = kept_look(search, at, is_end ? type : S_IFDIR, &what);
		if (r == 0 && what == KEPT_WHITEOUT && is_end)
			r = discard_kept_add(search->kept, at);
		else if (r == 0 && what > KEPT_MERGED)
			r = kept_refuse(search, path, source, at);
		if (!is_end)
			*end = '/';
	}
	return r;
}

/* ---- what is kept ---- */

static int kept_search_dir(const struct kept_search *search, int dirfd, const char *name,
			   const char *path, const char *lower);

/*
 * *@found: the path by which the lowers know @name, in a directory that they know by @lower (NULL:
 * they do not); the caller's, or NULL. *@is_source: a redirect says so.
 */
static int kept_find_lower(const struct kept_search *search, int dirfd, const char *name,
			   const char *lower, char **found, bool *is_source)
{
	char value[PATH_MAX];
	const char *step = name;

	*is_source = kept_read_redirect(search, dirfd, name, value) >= 0;
	if (*is_source)
		step = value;
	*found = NULL;
	if (*step != '/' && !lower)
		return 0;
	*found = *step == '/' ? strdup(step) : discard_kept_join(lower, step);
	return *found ? 0 : -ENOMEM;
}

static int kept_search_object(const struct kept_search *search, int dirfd, const char *name,
			      const char *path, const char *lower)
{
	_cleanup_free_ char *here = NULL;
	bool is_source = false;
	struct statx st;
	int r = sys_stat(dirfd, name, &st);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	bool is_dir = S_ISDIR(st.stx_mode);

	if (is_dir ? !kept_is_opaque(search, dirfd, name) :
		     S_ISREG(st.stx_mode) && kept_is_metacopy(search, dirfd, name))
		r = kept_find_lower(search, dirfd, name, lower, &here, &is_source);
	if (r == 0 && is_source && here)
		r = kept_note_source(search, path, here, st.stx_mode & S_IFMT);
	return r == 0 && is_dir ? kept_search_dir(search, dirfd, name, path, here) : r;
}

struct kept_dir {
	const struct kept_search *search;
	int fd;
	const char *path, *lower;
};

static int kept_search_entry(const struct sys_dirent *entry, void *context)
{
	const struct kept_dir *dir = context;
	_cleanup_free_ char *path = discard_kept_join(dir->path, entry->name);

	return path ? kept_search_object(dir->search, dir->fd, entry->name, path, dir->lower) :
		      -ENOMEM;
}

static int kept_search_dir(const struct kept_search *search, int dirfd, const char *name,
			   const char *path, const char *lower)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	struct kept_dir dir = { .search = search, .fd = fd, .path = path, .lower = lower };

	if (fd < 0) {
		strbuf_append_format(search->why, "%s cannot be looked into: %s", path,
				     strerror(-fd));
		return fd;
	}
	return sys_dir_for_each(fd, kept_search_entry, &dir);
}

/* One of those that were asked for. What leads to it is as it is in the lowers, or is told apart. */
static int kept_search_path(const struct kept_search *search, const char *path)
{
	_cleanup_free_ char *lower = discard_kept_join("", path);

	if (!lower)
		return -ENOMEM;
	for (char *end = strchr(lower + 1, '/'); end; end = strchr(end + 1, '/')) {
		struct statx st;

		*end = '\0';
		int r = sys_stat(search->upper_fd, lower + 1, &st);

		*end = '/';
		if (r < 0 || !S_ISDIR(st.stx_mode))
			return r == -ENOENT ? 0 : r;
	}
	*strrchr(lower, '/') = '\0';
	return kept_search_object(search, search->upper_fd, path, path, lower);
}

int discard_kept_add_sources(struct discard_kept *kept, struct core *core, int fd,
			     struct strbuf *why)
{
	struct kept_search search = { .core = core, .upper_fd = fd, .kept = kept, .why = why };
	size_t count = kept->count;
	int r = 0;

	for (int pass = 0; pass < 2; pass++) {
		search.refuses = pass == 1;
		for (size_t i = 0; r == 0 && i < count; i++)
			r = kept_search_path(&search, kept->paths[i]);
	}
	return r;
}
