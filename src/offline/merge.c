/* SPDX-License-Identifier: MIT */
/*
 * The layers are walked in lockstep, names and all, and each name is looked up as
 * a mount would do it.  What the result needs to say of the layers below the cut is
 * decided name by name: by what they have there when the inner layers are away.
 */
#include "offline/merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/nlink.h"
#include "offline/copy.h"
#include "offline/entry.h"
#include "offline/lineage.h"
#include "offline/mergemarks.h"
#include "offline/mutate.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define MERGE_WHITEOUT "whiteout"
#define MERGE_KEY_MAX 64

static int merge_fill(struct merge *merge, struct stack_dir *dir, int to, bool *impure);

void merge_deinit(struct merge *merge)
{
	strbuf_deinit(&merge->path);
}

void merge_explain(const struct merge *merge, int error, struct strbuf *why)
{
	if (error == -ENODATA)
		strbuf_append_string(why,
				     "the data of this metacopy file is in none of the layers: "
				     "name the layers below it (--lower), or ask 'veneer "
				     "fsck'");
	else if (error == -EINVAL)
		strbuf_append_string(why, "a redirect on the way to it is damaged: see 'veneer "
					  "fsck'");
	else
		strbuf_append_string(why, strerror(-error));
}

/* ---- copying one object ---- */

/* What the functions of struct copy need to know. */
struct merge_copy {
	struct merge *merge;
	unsigned int layer; /* that the attributes come from */
	bool keeps_origin;
};

/* True for a private attribute of the topmost layer that is as true of the result. */
static bool merge_keeps_private(const struct merge_copy *mc, const char *key)
{
	const struct stack *stack = mc->merge->stack;
	const bool is_plain = !mc->merge->link_top && stack->inner == stack->count;

	if (!strcmp(key, xattr_private_name(stack->ns, XATTR_ORIGIN)))
		return mc->keeps_origin;
	if (mc->layer > 0 || is_plain)
		return false;
	if (mc->merge->link_top)
		return strcmp(key, xattr_private_name(stack->ns, XATTR_OPAQUE)) &&
		       strcmp(key, xattr_private_name(stack->ns, XATTR_REDIRECT));
	return !strcmp(key, xattr_private_name(stack->ns, XATTR_PROTATTR)) ||
	       !strcmp(key, xattr_private_name(stack->ns, XATTR_OWNER)) ||
	       !strcmp(key, xattr_private_name(stack->ns, XATTR_TIMES));
}

static bool merge_filter(void *context, const char *key)
{
	const struct merge_copy *mc = context;

	return !xattr_name_is_private(mc->merge->stack->ns, key) || merge_keeps_private(mc, key);
}

static bool merge_is_interrupted(void *context)
{
	struct merge *merge = ((struct merge_copy *)context)->merge;

	return merge->is_interrupted && merge->is_interrupted(merge->context);
}

static void merge_progress(void *context, uint64_t done)
{
	struct merge *merge = ((struct merge_copy *)context)->merge;

	if (merge->progress)
		merge->progress(merge->context, &merge->counts, done);
}

static struct copy merge_copy_of(struct merge_copy *mc, int from, const struct statx *st)
{
	return (struct copy){
		.from = from,
		.st = st,
		.data = -1,
		.filter = merge_filter,
		.context = mc,
		.is_interrupted = merge_is_interrupted,
		.progress = merge_progress,
	};
}

/* ---- files ---- */

static void merge_key(const struct stack_hit *hit, char key[MERGE_KEY_MAX])
{
	snprintf(key, MERGE_KEY_MAX, "%x-%llx-%llx", hit->layer,
		 (unsigned long long)sys_stat_dev(&hit->st), (unsigned long long)hit->st.stx_ino);
}

/* The entry of the index for the file, if another name of it was copied up before; an O_PATH descriptor. */
static int merge_open_index(const struct merge *merge, const struct stack_hit *hit,
			    struct entry *entry)
{
	char key[ORIGIN_INDEX_NAME_MAX + 1];
	struct origin origin;

	if (!merge->link_top || merge->index < 0 || hit->layer == 0 || hit->st.stx_nlink < 2 ||
	    !lineage_of(merge->stack, hit->layer, hit->fd, &origin) ||
	    !origin_index_name(&origin, key) ||
	    entry_read(merge->index, key, merge->stack->ns, entry) < 0 || entry->is_whiteout)
		return -ENOENT;
	return sys_open(merge->index, key, O_PATH | O_NOFOLLOW, 0);
}

/*
 * The index entry @fd says how many names its file has relative to the names it has in the upper: before
 * it gets one of the others there, relative to the lower one. 0 or -errno.
 */
static int merge_count_by_lower(const struct merge *merge, int fd, const struct statx *st,
				const struct statx *lower)
{
	const char *key = xattr_private_name(merge->stack->ns, XATTR_NLINK);
	char value[NLINK_SIZE_MAX];
	struct nlink nlink = { .of_upper = true };
	ssize_t size = sys_getxattr(fd, key, value, sizeof(value));

	if (size == -ENODATA)
		size = 0;
	if (size < 0 || (size > 0 && nlink_decode(value, (size_t)size, &nlink) < 0))
		return size < 0 ? (int)size : -EIO;
	if (!nlink.of_upper)
		return 0;
	nlink.of_upper = false;
	nlink.delta += (int)st->stx_nlink - (int)lower->stx_nlink;
	return mutate_setxattr(fd, key, value, nlink_encode(&nlink, value));
}

/*
 * What is in the index is what this name leads to as well. 1: @name is a further name of it; 0: of one
 * that has only attributes, @found has these now, and the data is to be copied; or -errno.
 */
static int merge_link_index(struct merge *merge, struct stack_found *found, int to,
			    const char *name)
{
	_cleanup_entry_ struct entry entry = ENTRY_INIT;
	_cleanup_close_ int fd = merge_open_index(merge, &found->top, &entry);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (!entry.is_metacopy) {
		int r = merge_count_by_lower(merge, fd, &entry.st, &found->top.st);

		if (r == 0)
			r = mutate_link_fd(fd, to, name);
		return r < 0 ? r : 1;
	}
	if (!found->is_metacopy)
		found->data = found->top;
	else
		close(found->top.fd);
	found->top.fd = fd_take(&fd);
	found->top.st = entry.st;
	found->top.st.stx_nlink = MAX(entry.st.stx_nlink, 2U); /* there are more in the lower */
	found->is_metacopy = true;
	return 0;
}

/* 1 if @name is now a further name of what was copied, or is shared, already; 0 if that is to be done. */
static int merge_link(struct merge *merge, struct stack_found *found, int to, const char *name)
{
	char key[MERGE_KEY_MAX];
	int r;

	if (merge->link_top && found->top.layer == 0) {
		r = mutate_link_fd(found->top.fd, to, name);
		return r == -EMLINK ? 0 : r < 0 ? r : 1;
	}
	if (found->top.st.stx_nlink < 2)
		return 0;
	r = merge_link_index(merge, found, to, name);
	if (r != 0)
		return r;
	merge_key(&found->top, key);
	r = mutate_link(merge->spare, key, to, name);
	if (r == -EMLINK) /* one more copy, to which the next ones are linked */
		r = mutate_unlink(merge->spare, key) ?: -ENOENT;
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* For its next name. A file system without hard links has no second one. */
static int merge_keep(struct merge *merge, const struct stack_found *found, int to,
		      const char *name)
{
	char key[MERGE_KEY_MAX];

	if (found->top.st.stx_nlink < 2)
		return 0;
	merge_key(&found->top, key);
	int r = mutate_link(to, name, merge->spare, key);

	return r == -EPERM || r == -EOPNOTSUPP || r == -EMLINK ? 0 : r;
}

static void merge_count_file(struct merge *merge, const struct stack_found *found, bool has_data)
{
	mode_t mode = found->top.st.stx_mode;

	if (S_ISREG(mode))
		merge->counts.files++;
	else if (S_ISLNK(mode))
		merge->counts.symlinks++;
	else
		merge->counts.others++;
	if (S_ISREG(mode) && has_data)
		merge->counts.bytes += found->top.st.stx_size;
}

/* True if copies of what is in @layer say where they come from. */
static bool merge_names_origin(const struct merge *merge, unsigned int layer)
{
	return merge->link_top && layer > 0;
}

static int merge_copy_file(struct merge *merge, const struct stack_dir *dir,
			   const struct stack_found *found, int to, const char *name, bool *impure)
{
	struct merge_copy mc = { .merge = merge, .layer = found->top.layer };
	struct copy copy = merge_copy_of(&mc, found->top.fd, &found->top.st);
	bool is_metacopy = found->is_metacopy && found->data.layer >= merge->stack->inner;
	_cleanup_close_ int fd = -1;

	if (found->is_metacopy && found->data.fd < 0)
		return -ENODATA;
	copy.no_data = is_metacopy;
	copy.data = found->is_metacopy ? found->data.fd : -1;
	mc.keeps_origin = mergemarks_has_origin(merge->stack, dir, name, found);
	*impure |= mc.keeps_origin;
	int r = copy_make(&copy, to, name, &fd);

	/* The marks first: who may not override the mode can write no attributes behind it. */
	if (r == 0 && is_metacopy)
		r = mergemarks_metacopy(merge, dir, name, found, fd);
	if (r == 0 && merge_names_origin(merge, found->top.layer) && found->top.st.stx_nlink == 1) {
		r = lineage_set(merge->stack, found->top.layer, found->top.fd, fd);
		*impure = true;
	}
	if (r == 0)
		r = copy_attributes(&copy, fd);
	if (r == 0)
		r = copy_times(&found->top.st, fd);
	if (r == 0)
		merge_count_file(merge, found, !is_metacopy);
	return r;
}

static int merge_file(struct merge *merge, const struct stack_dir *dir, struct stack_found *found,
		      int to, const char *name, bool *impure)
{
	int r = merge_link(merge, found, to, name);

	if (r > 0) {
		merge->counts.links++;
		*impure |= mergemarks_has_origin(merge->stack, dir, name, found);
	}
	if (r != 0)
		return r < 0 ? r : 0;
	r = merge_copy_file(merge, dir, found, to, name, impure);
	return r < 0 ? r : merge_keep(merge, found, to, name);
}

/* ---- whiteouts ---- */

static int merge_new_whiteout(struct merge *merge, int to, const char *name)
{
	int r = mutate_link(merge->spare, MERGE_WHITEOUT, to, name);

	if (r == -EMLINK)
		r = mutate_unlink(merge->spare, MERGE_WHITEOUT) ?: -ENOENT;
	if (r == -ENOENT) {
		r = mutate_mknod(merge->spare, MERGE_WHITEOUT, S_IFCHR, 0);
		if (r == 0)
			r = mutate_link(merge->spare, MERGE_WHITEOUT, to, name);
	}
	if (r == -EPERM || r == -EOPNOTSUPP) /* no hard links */
		r = mutate_mknod(to, name, S_IFCHR, 0);
	return r;
}

/* The inner layers show nothing there: that must be said if the others would. */
static int merge_whiteout(struct merge *merge, const struct stack_dir *dir, int to,
			  const char *name)
{
	if (!mergemarks_is_below(merge->stack, dir, name))
		return 0;
	int r = merge_new_whiteout(merge, to, name);

	merge->counts.whiteouts += r == 0;
	return r;
}

/* ---- directories ---- */

/* Makes @to, which has all its names, what @dir's topmost part is. */
static int merge_dress(struct merge_copy *mc, const struct stack_dir *dir, int to, bool impure)
{
	const enum xattr_namespace ns = mc->merge->stack->ns;
	struct statx st;
	int r = sys_stat(dir->parts[0].fd, "", &st);

	if (r < 0)
		return r;
	const struct copy copy = merge_copy_of(mc, dir->parts[0].fd, &st);

	if (impure)
		r = mutate_setxattr(to, xattr_private_name(ns, XATTR_IMPURE), "y", 1);
	if (r == 0)
		r = copy_attributes(&copy, to);
	return r < 0 ? r : copy_times(&st, to);
}

static int merge_subdir(struct merge *merge, const struct stack_dir *dir, struct stack_found *found,
			int to, const char *name, bool *impure)
{
	struct merge_copy mc = { .merge = merge, .layer = found->dir.parts[0].layer };
	bool holds_origins = false;

	mc.keeps_origin = mergemarks_has_origin(merge->stack, dir, name, found);
	*impure |= mc.keeps_origin;
	int r = mutate_mkdir(to, name, 0700);
	_cleanup_close_ int fd = r < 0 ? r : sys_open(to, name, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	r = merge_fill(merge, &found->dir, fd, &holds_origins);
	if (r == 0 && merge_names_origin(merge, mc.layer)) {
		r = lineage_set(merge->stack, mc.layer, found->dir.parts[0].fd, fd);
		*impure = true;
	}
	if (r == 0)
		r = mergemarks_directory(merge, dir, name, &found->dir, fd);
	if (r == 0)
		r = merge_dress(&mc, &found->dir, fd, holds_origins);
	merge->counts.directories += r == 0;
	return r;
}

/* True if the object comes from below the cut, where it shows by itself. */
static bool merge_is_below(const struct merge *merge, const struct stack_found *found)
{
	unsigned int layer = found->kind == STACK_DIR ? found->dir.parts[0].layer :
							found->top.layer;

	return layer >= merge->stack->inner;
}

static int merge_name(struct merge *merge, const struct stack_dir *dir, int to, const char *name,
		      bool *impure)
{
	_cleanup_stack_found_ struct stack_found found = STACK_FOUND_INIT;

	if (merge->is_interrupted && merge->is_interrupted(merge->context))
		return -EINTR;
	int r = stack_lookup(merge->stack, dir, name, 0, &found);

	if (r < 0)
		return r;
	if (merge->progress)
		merge->progress(merge->context, &merge->counts, 0);
	if (found.kind == STACK_NOTHING)
		return merge_whiteout(merge, dir, to, name);
	if (merge_is_below(merge, &found))
		return 0;
	return found.kind == STACK_DIR ? merge_subdir(merge, dir, &found, to, name, impure) :
					 merge_file(merge, dir, &found, to, name, impure);
}

/* Everything in @dir; *@impure: some of it has an origin. */
static int merge_fill(struct merge *merge, struct stack_dir *dir, int to, bool *impure)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = stack_names(merge->stack, dir, 0, merge->stack->inner, &names);
	size_t length = merge->path.length;

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (length > 0)
			strbuf_append_string(&merge->path, "/");
		strbuf_append_string(&merge->path, names.names[i]);
		r = merge->path.failed ? -ENOMEM :
					 merge_name(merge, dir, to, names.names[i], impure);
		if (r == 0) {
			merge->path.length = length;
			merge->path.data[length] = '\0';
		}
	}
	return r;
}

int merge_into(struct merge *merge, struct stack_dir *dir, int to)
{
	struct merge_copy mc = { .merge = merge, .layer = dir->parts[0].layer };
	bool impure = false;
	int r = merge_fill(merge, dir, to, &impure);

	mc.keeps_origin = merge->link_top;
	return r < 0 ? r : merge_dress(&mc, dir, to, impure);
}
