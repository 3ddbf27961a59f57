/* SPDX-License-Identifier: MIT */
#include "offline/flatten.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>

#include "offline/copy.h"
#include "offline/entry.h"
#include "offline/keepaside.h"
#include "offline/lineage.h"
#include "offline/merge.h"
#include "offline/mutate.h"
#include "sys/copy.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define FLATTEN_TREE "tree"
#define FLATTEN_SPARE "spare"

/* Which objects a walk through the upper is about. Directories come last: their copies link files. */
enum flatten_pass {
	FLATTEN_PASS_FILES,
	FLATTEN_PASS_DIRECTORIES,
};

static int flatten_walk(struct flatten *flatten, enum flatten_pass pass, struct stack_dir *dir);

void flatten_deinit(struct flatten *flatten)
{
	strbuf_deinit(&flatten->path);
}

static bool flatten_only_looks(const struct flatten *flatten)
{
	return flatten->work < 0;
}

static const char *flatten_key(const struct flatten *flatten, enum xattr_private which)
{
	return xattr_private_name(flatten->stack->ns, which);
}

static void flatten_report(struct flatten *flatten, enum flatten_kind kind)
{
	if (flatten->report)
		flatten->report(flatten->context, kind,
				flatten->path.length ? flatten->path.data : ".");
}

/* ---- files ---- */

static bool flatten_is_interrupted(void *context)
{
	struct flatten *flatten = context;

	return flatten->is_interrupted && flatten->is_interrupted(flatten->context);
}

static void flatten_progress(void *context, uint64_t done)
{
	struct flatten *flatten = context;

	if (flatten->progress)
		flatten->progress(flatten->context, flatten->counts.bytes + done);
}

static int flatten_copy_data(struct flatten *flatten, const struct stack_found *found)
{
	_cleanup_close_ int to = sys_reopen(found->top.fd, O_WRONLY);
	_cleanup_close_ int from = to < 0 ? -1 : sys_reopen(found->data.fd, O_RDONLY);

	if (to < 0 || from < 0)
		return to < 0 ? to : from;
	sys_keep_atime(from);
	/* Blocks of a metacopy file do not count, but those where its data has a hole would. */
	if (found->top.st.stx_blocks > 0 && found->top.st.stx_size > 0)
		sys_fallocate(to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			      (off_t)found->top.st.stx_size);
	const struct sys_copy copy = {
		.from = from,
		.to = to,
		.size = found->top.st.stx_size,
		.is_interrupted = flatten_is_interrupted,
		.progress = flatten_progress,
		.context = flatten,
	};
	int r = mutate_copy_data(&copy);

	return r < 0 ? r : mutate_fsync(to);
}

/* Absent is as good as removed. */
static int flatten_remove_mark(const struct flatten *flatten, int fd, enum xattr_private which)
{
	int r = mutate_removexattr(fd, flatten_key(flatten, which));

	return r == -ENODATA ? 0 : r;
}

/*
 * Until the metacopy attribute is gone the data is read from below; the redirect of a file that has
 * its data is read by nobody. What was put aside comes last: before, the attributes may be written.
 */
static int flatten_file(struct flatten *flatten, const struct stack_found *found)
{
	const enum xattr_namespace ns = flatten->stack->ns;

	if (found->data.fd < 0)
		return -ENODATA;
	if (flatten_only_looks(flatten))
		return 0;
	int r = keepaside_begin(found->top.fd, ns);

	if (r == 0)
		r = flatten_copy_data(flatten, found);
	if (r == 0)
		r = flatten_remove_mark(flatten, found->top.fd, XATTR_METACOPY);
	if (r == 0)
		r = flatten_remove_mark(flatten, found->top.fd, XATTR_REDIRECT);
	int put_back = keepaside_end(found->top.fd, ns);

	return r < 0 ? r : put_back;
}

/* ---- directories ---- */

static void flatten_merge_progress(void *context, const struct merge_counts *counts, uint64_t done)
{
	struct flatten *flatten = context;

	if (flatten->progress)
		flatten->progress(flatten->context, flatten->counts.bytes + counts->bytes + done);
}

/* Makes what takes the place of the directory. */
static int flatten_make_tree(struct flatten *flatten, struct stack_dir *dir, int spare)
{
	struct merge merge = {
		.stack = flatten->stack,
		.link_top = true,
		.index = flatten->index,
		.spare = spare,
		.is_interrupted = flatten->is_interrupted ? flatten_is_interrupted : NULL,
		.progress = flatten_merge_progress,
		.context = flatten,
	};
	int r = mutate_mkdir(flatten->work, FLATTEN_TREE, 0700);
	_cleanup_close_ int fd =
		r < 0 ? r : sys_open(flatten->work, FLATTEN_TREE, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	/* While it may be written. */
	r = mutate_setxattr(fd, flatten_key(flatten, XATTR_OPAQUE), "y", 1);
	if (r == 0)
		r = merge_into(&merge, dir, fd);
	if (r == 0)
		flatten->counts.bytes += merge.counts.bytes;
	if (r < 0 && merge.path.length > 0) {
		strbuf_append_string(&flatten->path, "/");
		strbuf_append_string(&flatten->path, merge.path.data);
	}
	merge_deinit(&merge);
	return r;
}

/*
 * The new one gets the name. Who may not override modes may move a directory only if it can be
 * written: so both are opened up, and what they had is put back, or thrown away with the old one.
 */
static int flatten_exchange(struct flatten *flatten, const struct stack_dir *parent,
			    const char *name, int old)
{
	const enum xattr_namespace ns = flatten->stack->ns;
	_cleanup_close_ int new = sys_open(flatten->work, FLATTEN_TREE, O_RDONLY | O_DIRECTORY, 0);
	_cleanup_close_ int in = new < 0 ? -1 :
					   sys_reopen(parent->parts[0].fd, O_RDONLY | O_DIRECTORY);
	int r = new < 0 ? new : in < 0 ? in : mutate_syncfs(new);

	if (r == 0)
		r = keepaside_begin(in, ns);
	if (r == 0)
		r = mutate_rename(flatten->work, FLATTEN_TREE, in, name, RENAME_EXCHANGE);
	if (r == -EACCES) {
		r = keepaside_begin(new, ns);
		if (r == 0)
			r = mutate_chmod(new, 0700);
		if (r == 0)
			r = keepaside_begin(old, ns);
		if (r == 0)
			r = mutate_chmod(old, 0700);
		if (r == 0)
			r = mutate_rename(flatten->work, FLATTEN_TREE, in, name, RENAME_EXCHANGE);
		if (r == 0)
			r = keepaside_end(new, ns);
		else
			keepaside_end(old, ns);
	}
	int put_back = keepaside_end(in, ns);

	return r < 0 ? r : put_back < 0 ? put_back : mutate_fsync(in);
}

static int flatten_directory(struct flatten *flatten, const struct stack_dir *parent,
			     const char *name, struct stack_found *found)
{
	if (flatten_only_looks(flatten))
		return 0;
	int r = mutate_mkdir(flatten->work, FLATTEN_SPARE, 0700);
	_cleanup_close_ int spare =
		r < 0 ? r : sys_open(flatten->work, FLATTEN_SPARE, O_PATH | O_DIRECTORY, 0);

	if (spare < 0)
		return spare;
	r = flatten_make_tree(flatten, &found->dir, spare);
	if (r == 0)
		r = flatten_exchange(flatten, parent, name, found->dir.parts[0].fd);
	int removed = copy_remove(flatten->work, FLATTEN_TREE);

	if (removed == 0 || removed == -ENOENT)
		removed = copy_remove(flatten->work, FLATTEN_SPARE);
	return r < 0 ? r : removed;
}

/* ---- the walk ---- */

/* The marks of one object of the upper, and what they ask for. */
static int flatten_object(struct flatten *flatten, enum flatten_pass pass, struct stack_dir *dir,
			  const char *name, const struct entry *entry)
{
	const bool is_dir = S_ISDIR(entry->st.stx_mode);
	const bool is_due = pass == FLATTEN_PASS_FILES ?
				    entry->is_metacopy :
				    is_dir && entry->redirect && entry->opaque != OPAQUE_YES;
	_cleanup_stack_found_ struct stack_found found = STACK_FOUND_INIT;

	if (!is_dir && !is_due)
		return 0;
	int r = stack_lookup(flatten->stack, dir, name, 0, &found);

	if (r < 0 || found.kind == STACK_NOTHING)
		return r;
	if (!is_due)
		return flatten_walk(flatten, pass, &found.dir);
	flatten_report(flatten, is_dir ? FLATTEN_DIRECTORY : FLATTEN_FILE);
	r = is_dir ? flatten_directory(flatten, dir, name, &found) : flatten_file(flatten, &found);
	if (r < 0)
		return r;
	flatten->counts.directories += is_dir;
	flatten->counts.files += !is_dir;
	flatten->counts.bytes += is_dir ? 0 : entry->st.stx_size;
	return 0;
}

/* A redirect that nobody reads: of a file with data of its own, or of an opaque directory. */
static bool flatten_has_idle_redirect(const struct entry *entry)
{
	return entry->redirect && (S_ISREG(entry->st.stx_mode) || entry->opaque == OPAQUE_YES);
}

/* What a run that was cut off, or a copy-up, left on an object that needs no more unfolding. */
static int flatten_remains(struct flatten *flatten, int dirfd, const char *name,
			   const struct entry *entry)
{
	const bool is_dir = S_ISDIR(entry->st.stx_mode);

	if ((!is_dir && !S_ISREG(entry->st.stx_mode)) || entry->is_metacopy)
		return 0;
	_cleanup_close_ int fd = sys_open(dirfd, name, O_PATH | O_NOFOLLOW, 0);

	if (fd < 0)
		return fd;
	if (!keepaside_is_open(fd, flatten->stack->ns) && !flatten_has_idle_redirect(entry))
		return 0;
	flatten_report(flatten, FLATTEN_REMAINS);
	flatten->counts.remains++;
	if (flatten_only_looks(flatten))
		return 0;
	int r = flatten_has_idle_redirect(entry) ? keepaside_begin(fd, flatten->stack->ns) : 0;

	if (r == 0 && flatten_has_idle_redirect(entry))
		r = flatten_remove_mark(flatten, fd, XATTR_REDIRECT);
	return r < 0 ? r : keepaside_end(fd, flatten->stack->ns);
}

static int flatten_name(struct flatten *flatten, enum flatten_pass pass, struct stack_dir *dir,
			const char *name)
{
	_cleanup_entry_ struct entry entry = ENTRY_INIT;

	if (flatten_is_interrupted(flatten))
		return -EINTR;
	int r = entry_read(dir->parts[0].fd, name, flatten->stack->ns, &entry);

	if (r == 0 && entry.has_bad_redirect)
		r = -EINVAL;
	if (r == 0 && pass == FLATTEN_PASS_FILES)
		r = flatten_remains(flatten, dir->parts[0].fd, name, &entry);
	return r < 0 || entry.is_whiteout ? r : flatten_object(flatten, pass, dir, name, &entry);
}

/* Through what the upper has in @dir. */
static int flatten_walk(struct flatten *flatten, enum flatten_pass pass, struct stack_dir *dir)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = stack_names(flatten->stack, dir, 0, 1, &names);
	size_t length = flatten->path.length;

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (length > 0)
			strbuf_append_string(&flatten->path, "/");
		strbuf_append_string(&flatten->path, names.names[i]);
		r = flatten->path.failed ? -ENOMEM :
					   flatten_name(flatten, pass, dir, names.names[i]);
		if (r == 0) {
			flatten->path.length = length;
			flatten->path.data[length] = '\0';
		}
	}
	return r;
}

/*
 * A file in the index that has no name in the upper: it is what some names in the lowers lead to.
 * Its data is in the file that the entry is called after. Who may not open that by its handle leaves
 * it, as one whose data is further below: without metacopy and the index nobody reads the entry.
 */
static int flatten_index_entry(struct flatten *flatten, const char *name)
{
	_cleanup_stack_found_ struct stack_found found = STACK_FOUND_INIT;
	_cleanup_entry_ struct entry entry = ENTRY_INIT, data = ENTRY_INIT;
	int r = entry_read(flatten->index, name, flatten->stack->ns, &entry);

	if (r < 0 || !entry.is_metacopy || entry.st.stx_nlink > 1)
		return r;
	found.data.fd = lineage_open(flatten->stack, name);
	if (found.data.fd < 0 || entry_read(found.data.fd, "", flatten->stack->ns, &data) < 0 ||
	    data.is_metacopy)
		return 0;
	flatten_report(flatten, FLATTEN_FILE);
	found.top.fd = sys_open(flatten->index, name, O_PATH | O_NOFOLLOW, 0);
	found.top.st = entry.st;
	r = found.top.fd < 0 ? found.top.fd : flatten_file(flatten, &found);
	flatten->counts.files += r == 0;
	flatten->counts.bytes += r == 0 ? entry.st.stx_size : 0;
	return r;
}

static int flatten_index(struct flatten *flatten)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	_cleanup_close_ int fd =
		flatten->index < 0 ? -1 : sys_reopen(flatten->index, O_RDONLY | O_DIRECTORY);
	int r = fd < 0 ? 0 : entry_names_read(fd, &names);

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		strbuf_append_string(&flatten->path, names.names[i]);
		r = flatten->path.failed ? -ENOMEM : flatten_index_entry(flatten, names.names[i]);
		if (r == 0)
			flatten->path.length = 0;
	}
	return r;
}

int flatten_run(struct flatten *flatten)
{
	_cleanup_stack_dir_ struct stack_dir root = STACK_DIR_INIT;
	int r = stack_root(flatten->stack, &root);

	if (r == 0)
		r = flatten_remains(flatten, root.parts[0].fd, "",
				    &(const struct entry){ .st.stx_mode = S_IFDIR });
	if (r == 0)
		r = flatten_walk(flatten, FLATTEN_PASS_FILES, &root);
	if (r == 0)
		r = flatten_index(flatten);
	return r < 0 ? r : flatten_walk(flatten, FLATTEN_PASS_DIRECTORIES, &root);
}
