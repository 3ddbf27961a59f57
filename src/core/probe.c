/* SPDX-License-Identifier: MIT */
/*
 * Asking the layers for a name.
 *
 * A probe goes down the layers, top first, and collects what it finds: at most
 * one object of the upper, then lower directories to merge with, or the lower
 * parts of a file.  What a layer says (whiteout, opaque, redirect, metacopy)
 * decides where, and whether, the search goes on; the rules are the kernel's
 * (fs/overlayfs/namei.c), told in docs/format.md "Lookup".
 */
#include "core/probe.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/ahead.h"
#include "core/lowernames.h"
#include "format/redirect.h"
#include "format/whiteout.h"
#include "sys/file.h"
#include "sys/xattr.h"

struct probe {
	struct core *core;
	/* What is looked for in the next layer: one name, or an absolute path. */
	char *want;
	bool is_dir, metacopy; /* of the last object found */
	struct metacopy value; /* if metacopy: what its attribute says */
	bool stop, opaque; /* nothing below counts; by an opaque directory or a whiteout */
	bool absolute; /* the last redirect was absolute */
	bool redirected; /* a redirect was met */
	bool last; /* no layer below could add anything: its attributes need no reading */
	unsigned int lacks; /* NAMEINDEX_*: what the layer is known not to have of want */
	struct nameindex_cursor cursor; /* through the lowers that may have want */
	unsigned int misses; /* lowers that were asked without need */
	struct ahead_dirs ahead; /* the walk through the lowers */
};

static void hit_deinit(struct core *core, struct hit *hit)
{
	hit->dir = ldir_unref(&core->fds, hit->dir);
}

void found_deinit(struct core *core, struct found *found)
{
	hit_deinit(core, &found->upper);
	hit_deinit(core, &found->top);
	hit_deinit(core, &found->data);
	for (unsigned int i = 0; i < found->lower_count; i++)
		ldir_unref(&core->fds, found->lowers[i]);
	free(found->lowers);
	free(found->redirect);
	name_unref(found->index_name);
}

bool found_exists(const struct found *found)
{
	return found->upper.dir || found->top.dir || found->lower_count;
}

const struct statx *found_top_stat(const struct found *found)
{
	return found->upper.dir ? &found->upper.st : &found->top.st;
}

/* ---- what a single object says ---- */

bool probe_is_trap(const struct core *core, const struct statx *st)
{
	for (unsigned int i = 0; i < core->trap_count; i++) {
		if (core->traps[i].ino == st->stx_ino && core->traps[i].dev == sys_stat_dev(st))
			return true;
	}
	return false;
}

bool probe_is_xattr_whiteout(struct core *core, int dirfd, const char *name, const struct statx *st)
{
	return whiteout_may_be_xattr(st->stx_mode, st->stx_size) &&
	       sys_getxattr_at(dirfd, name, core_key(core, XATTR_WHITEOUT), NULL, 0) >= 0;
}

bool probe_is_whiteout(struct core *core, int dirfd, const char *name, const struct statx *st)
{
	return whiteout_is_device(st->stx_mode, sys_stat_rdev(st)) ||
	       probe_is_xattr_whiteout(core, dirfd, name, st);
}

bool probe_xattr_is_absent(ssize_t r)
{
	return r == -ENODATA || r == -EOPNOTSUPP || r == -EPERM || r == -EACCES;
}

int probe_lower_hides(int fd, const char *name)
{
	char hidden[NAME_MAX + 1];
	struct statx st;

	if (strlen(name) + WHITEOUT_PREFIX_LENGTH > NAME_MAX)
		return 0;
	strcpy(stpcpy(hidden, WHITEOUT_PREFIX), name);
	int r = sys_stat(fd, hidden, &st);

	if (r == 0)
		return S_ISREG(st.stx_mode);
	return r == -ENOENT || r == -ENAMETOOLONG ? 0 : r;
}

int probe_stat(struct core *core, const struct ldir *in, int dirfd, const char *name,
	       struct statx *st)
{
	bool is_private = in->layer->is_private;
	int r = 0;

	/* Before its file system is asked: what is mounted there may be the union itself. */
	if (!is_private)
		r = sys_stat_local(dirfd, name, STATX_BASIC_STATS | STATX_BTIME, st);
	if (r == 0 && (is_private || !layer_ends_at(in->layer, st)))
		r = sys_stat(dirfd, name, st);
	if (r == 0 && S_ISDIR(st->stx_mode) && sys_stat_dev(st) != in->dev)
		ident_meet_dev(&core->ident, in->dev, in->ino, name, sys_stat_dev(st));
	if (r < 0 || !in->layer->is_upper || !sys_stat_is_mount_root(st))
		return r;
	log_warning_limited("%s: something is mounted there in the upper", name);
	return -EXDEV;
}

static int probe_read_opaque(struct probe *p, int dirfd, const char *name, bool is_upper,
			     enum opaque_value *value)
{
	char buf[4];
	ssize_t r = sys_getxattr_at(dirfd, name, core_key(p->core, XATTR_OPAQUE), buf, sizeof(buf));

	*value = r > 0 ? opaque_parse(buf, r) : OPAQUE_NONE;
	if (r < 0 && r != -ERANGE && !probe_xattr_is_absent(r))
		return r;
	if (*value == OPAQUE_YES || is_upper)
		return 0;
	char marker[NAME_MAX + sizeof(WHITEOUT_OPAQUE_NAME) + 1];
	struct statx st;

	strcpy(stpcpy(stpcpy(marker, name), "/"), WHITEOUT_OPAQUE_NAME);
	if (sys_stat(dirfd, marker, &st) == 0)
		*value = OPAQUE_YES;
	return 0;
}

/*
 * Reads the redirect of the object that was found under the part of p->want that ends before
 * @post, and makes it what the next layer is asked for.
 */
static int probe_read_redirect(struct probe *p, int dirfd, const char *name, size_t before,
			       const char *post)
{
	char value[PATH_MAX];
	ssize_t size = sys_getxattr_at(dirfd, name, core_key(p->core, XATTR_REDIRECT), value,
				       PATH_MAX - 1);

	if (size < 0)
		return probe_xattr_is_absent(size) ? 0 : size;
	value[size] = '\0';
	if (!redirect_is_valid(value, size)) {
		log_warning_limited("%s: invalid redirect", name);
		return -EINVAL;
	}
	p->absolute = redirect_is_absolute(value);
	p->redirected = true;
	struct strbuf want = STRBUF_INIT;

	if (p->absolute)
		p->stop = false; /* an opaque directory on the way does not end this search */
	else
		strbuf_append(&want, p->want, before);
	strbuf_append(&want, value, size);
	strbuf_append_string(&want, post);
	char *taken = strbuf_take(&want);

	if (!taken)
		return -ENOMEM;
	free(p->want);
	p->want = taken;
	p->cursor.index = NULL;
	return 0;
}

static int probe_read_metacopy(struct probe *p, int dirfd, const char *name, const struct statx *st)
{
	uint8_t value[METACOPY_SIZE_MAX];

	p->metacopy = false;
	if (!S_ISREG(st->stx_mode))
		return 0;
	ssize_t r = sys_getxattr_at(dirfd, name, core_key(p->core, XATTR_METACOPY), value,
				    sizeof(value));
	if (r < 0)
		return probe_xattr_is_absent(r) ? 0 : r == -ERANGE ? -EIO : r;
	p->metacopy = true;
	return metacopy_decode(value, r, &p->value);
}

bool probe_leaves_metacopy(const struct core *core, const struct layer *layer)
{
	return layer->is_last && !core->data_count && !layer->is_upper;
}

/* ---- one component in one layer ---- */

/* A directory was found. Returns 1 if it counts, 0 if not, or -errno. */
static int probe_take_dir(struct probe *p, struct ldir *in, int dirfd, const struct hit *hit,
			  size_t before, const char *post)
{
	bool is_last_element = !*post;
	bool is_upper = in->layer->is_upper;
	enum opaque_value opaque;

	if (!is_upper && probe_is_trap(p->core, &hit->st)) {
		log_warning_limited("%s: overlapping layers", hit->name);
		return -ELOOP;
	}
	if (is_last_element)
		p->is_dir = true;
	if (p->last || layer_ends_at(in->layer, &hit->st))
		return 1;
	int r = probe_read_opaque(p, dirfd, hit->name, is_upper, &opaque);

	if (r < 0)
		return r;
	if (opaque == OPAQUE_XWHITEOUTS && is_last_element && !is_upper)
		atomic_store(&in->layer->xwhiteouts, true);
	if (opaque == OPAQUE_YES) {
		p->stop = true;
		p->opaque |= is_last_element;
		return 1;
	}
	r = probe_read_redirect(p, dirfd, hit->name, before, post);
	return r < 0 ? r : 1;
}

static int probe_take_file(struct probe *p, struct ldir *in, int dirfd, const struct hit *hit,
			   size_t before, const char *post)
{
	if (p->is_dir || *post) {
		p->stop = true; /* a file ends the merging of directories above it */
		return 0;
	}
	if (probe_leaves_metacopy(p->core, in->layer)) {
		p->metacopy = false;
		p->stop = true;
		return 1;
	}
	int r = probe_read_metacopy(p, dirfd, hit->name, &hit->st);

	if (r < 0)
		return r;
	p->stop = !p->metacopy;
	if (!p->metacopy || p->last)
		return 1;
	r = probe_read_redirect(p, dirfd, hit->name, before, post);
	return r < 0 ? r : 1;
}

/*
 * Looks for one component (@hit->name) of p->want in the directory @in, whose descriptor is
 * @dirfd. Returns 1 with hit->st, 0 if there is nothing that counts, or -errno.
 */
static int probe_component(struct probe *p, struct ldir *in, int dirfd, struct hit *hit,
			   size_t before, const char *post)
{
	bool is_lower = !in->layer->is_upper;

	if (is_lower && whiteout_name_kind(hit->name) != WHITEOUT_NAME_NONE)
		return 0;
	int r = p->lacks & NAMEINDEX_ENTRY ? -ENOENT :
					     probe_stat(p->core, in, dirfd, hit->name, &hit->st);

	if (r < 0 && r != -ENOENT && r != -ENAMETOOLONG)
		return r;
	if (is_lower && !p->last && !(p->lacks & NAMEINDEX_HIDES) &&
	    (r < 0 || S_ISDIR(hit->st.stx_mode))) {
		int hides = probe_lower_hides(dirfd, hit->name);

		if (hides < 0)
			return hides;
		p->stop |= hides;
		p->opaque |= hides;
	}
	if (r < 0)
		return 0;
	if (probe_is_whiteout(p->core, dirfd, hit->name, &hit->st)) {
		p->stop = p->opaque = true;
		return 0;
	}
	if (!*post && p->metacopy && !S_ISREG(hit->st.stx_mode)) {
		p->stop = true;
		return 0;
	}
	return S_ISDIR(hit->st.stx_mode) ? probe_take_dir(p, in, dirfd, hit, before, post) :
					   probe_take_file(p, in, dirfd, hit, before, post);
}

static int probe_in(struct probe *p, struct ldir *in, struct hit *hit, size_t before,
		    const char *post)
{
	if (in->is_mount_point)
		return 0;
	int fd = ldir_pin(&p->core->fds, in);

	if (fd < 0)
		return fd;
	int r = probe_component(p, in, fd, hit, before, post);

	ldir_unpin(in);
	if (r > 0)
		hit->dir = ldir_ref(in);
	return r;
}

/*
 * Follows an absolute p->want from a layer's root. A redirect met on the way replaces what was
 * behind us for the layers below, so the position is counted from the end.
 */
static int probe_path(struct probe *p, struct ldir *root, struct hit *hit)
{
	struct ldir *in = ldir_ref(root);
	size_t rest = strlen(p->want) - 1; /* behind the leading slash */

	for (;;) {
		size_t length = strlen(p->want);
		const char *component = p->want + length - rest;
		size_t size = strcspn(component, "/");
		_cleanup_free_ char *post = strdup(component + size);
		int r = -ENAMETOOLONG;

		if (!post) {
			r = -ENOMEM;
		} else if (size <= NAME_MAX) {
			memcpy(hit->name, component, size);
			hit->name[size] = '\0';
			r = probe_in(p, in, hit, length - rest, post);
		}
		if (r <= 0 || !*post) {
			ldir_unref(&p->core->fds, in);
			return r == -ENAMETOOLONG ? 0 : r;
		}
		struct ldir *next = ldir_new(in, hit->name, &hit->st);

		hit_deinit(p->core, hit);
		ldir_unref(&p->core->fds, in);
		if (!next)
			return -ENOMEM;
		in = next;
		rest -= size + 1;
	}
}

/* Looks for p->want in one layer: in @in, or from @root if it is absolute. 1, 0 or -errno. */
static int probe_layer(struct probe *p, struct ldir *in, struct hit *hit)
{
	*hit = (struct hit){ 0 };
	if (p->want[0] == '/')
		return probe_path(p, in->layer->root, hit);
	if (strlen(p->want) > NAME_MAX)
		return 0;
	strcpy(hit->name, p->want);
	return probe_in(p, in, hit, 0, "");
}

/* ---- through the layers ---- */

static int found_add_lower_dir(struct found *found, const struct hit *hit)
{
	struct ldir **lowers = realloc(found->lowers, (found->lower_count + 1) * sizeof(*lowers));

	if (!lowers)
		return -ENOMEM;
	found->lowers = lowers;
	lowers[found->lower_count] = ldir_new(hit->dir, hit->name, &hit->st);
	if (!lowers[found->lower_count])
		return -ENOMEM;
	found->lower_count++;
	return 0;
}

/* Takes one lower part; @hit is consumed. */
static int found_add_lower(struct core *core, struct probe *p, struct found *found, struct hit *hit)
{
	if (p->is_dir) {
		int r = found_add_lower_dir(found, hit);

		hit_deinit(core, hit);
		return r;
	}
	if (!found->top.dir) {
		found->top = *hit;
		found->top_is_metacopy = p->metacopy;
	} else {
		hit_deinit(core, &found->data);
		found->data = *hit;
	}
	return 0;
}

static int probe_upper(struct core *core, struct node *parent, struct probe *p, struct found *found)
{
	p->last = core->redirect == CORE_REDIRECT_NOFOLLOW && !parent->dir->lower_count;
	int r = probe_layer(p, parent->dir->upper, &found->upper);

	if (r <= 0)
		return r;
	found->is_dir = p->is_dir;
	found->is_metacopy = p->metacopy;
	found->metacopy = p->value;
	found->upper_opaque = p->opaque;
	if (p->redirected) {
		found->redirect = strdup(p->want);
		if (!found->redirect)
			return -ENOMEM;
	}
	return 0;
}

/* Where to go on in @stack, of @count directories, below layer @index. */
static unsigned int stack_below(struct ldir **stack, unsigned int count, unsigned int index)
{
	unsigned int i = 0;

	while (i < count && stack[i]->layer->index <= index)
		i++;
	return i;
}

static bool probe_is_last(const struct probe *p, const struct layer *layer, bool end_of_stack)
{
	if (p->core->redirect == CORE_REDIRECT_NOFOLLOW)
		return end_of_stack;
	return (p->is_dir || !p->core->data_count) && layer->is_last;
}

/* What was found says where to go on: is that to be followed? */
static int probe_check_follow(const struct probe *p)
{
	if (p->metacopy && !p->core->metacopy) {
		log_warning_limited("%s: refusing to follow metacopy", p->want);
		return -EPERM;
	}
	if (p->redirected && p->core->redirect == CORE_REDIRECT_NOFOLLOW) {
		log_warning_limited("%s: refusing to follow redirect", p->want);
		return -EPERM;
	}
	return 0;
}

/*
 * The number of the next of @stack, @parent's lowers or the root's, to be asked, from @i on;
 * stack->lower_count: none.
 */
static unsigned int probe_next(struct probe *p, const struct node *parent,
			       const struct node_dir *stack, unsigned int i)
{
	unsigned int kinds = NAMEINDEX_ALL;

	/* A path begins elsewhere, and another directory's lock is not held. */
	if (stack == parent->dir && p->want[0] != '/')
		i = lowernames_next(stack, p->want, &p->cursor, i, &kinds);
	p->lacks = NAMEINDEX_ALL & ~kinds;
	return i;
}

/* The lowers from the @i-th on keep us waiting: others ask those that we will. */
static void probe_ask_ahead(struct probe *p, const struct node *parent,
			    const struct node_dir *stack, unsigned int i)
{
	struct nameindex_cursor cursor = p->cursor;
	unsigned int count = 0, kinds;

	if (stack != parent->dir || p->want[0] == '/' || strlen(p->want) > NAME_MAX)
		return;
	_cleanup_free_ struct ldir **rest = malloc(stack->lower_count * sizeof(struct ldir *));

	while (rest &&
	       (i = lowernames_next(stack, p->want, &cursor, i, &kinds)) < stack->lower_count)
		rest[count++] = stack->lowers[i++];
	ahead_dirs_ask(&p->ahead, p->core, rest, count, p->want);
}

static int probe_lowers_each(struct core *core, struct node *parent, struct probe *p,
			     struct found *found)
{
	const struct node_dir *root = core->root ? core->root->dir : parent->dir;
	const struct node_dir *stack = p->absolute ? root : parent->dir;

	for (unsigned int i = 0; !p->stop; i++) {
		i = probe_next(p, parent, stack, i);
		if (i >= stack->lower_count)
			break;
		struct ldir *in = stack->lowers[i];
		struct hit hit;

		int r = probe_check_follow(p);

		if (r < 0)
			return r;
		p->last = probe_is_last(p, in->layer, i + 1 == stack->lower_count);
		r = probe_layer(p, in, &hit);
		if (r < 0)
			return r;
		if (!p->stop && ahead_dirs_step(&p->ahead))
			probe_ask_ahead(p, parent, stack, i + 1);
		if (r == 0) {
			p->misses += stack == parent->dir;
			continue;
		}
		if (!found->upper.dir && !found->top.dir && !found->lower_count) {
			found->is_metacopy = p->metacopy;
			found->metacopy = p->value;
		}
		r = found_add_lower(core, p, found, &hit);
		if (r < 0)
			return r;
		if (p->absolute && stack != root) {
			i = stack_below(root->lowers, root->lower_count, in->layer->index) - 1;
			stack = root;
		}
	}
	found->is_dir |= p->is_dir;
	return 0;
}

static int probe_lowers(struct core *core, struct node *parent, struct probe *p,
			struct found *found)
{
	ahead_dirs_start(&p->ahead, parent->dir->lower_count);
	int r = probe_lowers_each(core, parent, p, found);

	ahead_dirs_end(&p->ahead, core);
	return r;
}

/* The data of a metacopy file in the data-only layers, under an absolute redirect. */
static int probe_data_layers(struct core *core, struct probe *p, struct found *found)
{
	for (unsigned int i = core->layer_count - core->data_count; i < core->layer_count; i++) {
		struct probe path = { .core = core, .want = strdup(p->want), .last = true };
		struct hit hit;

		if (!path.want)
			return -ENOMEM;
		int r = probe_layer(&path, core->layers[i].root, &hit);

		free(path.want);
		if (r > 0 && S_ISREG(hit.st.stx_mode)) {
			hit_deinit(core, &found->data);
			found->data = hit;
			return 0;
		}
		if (r > 0)
			hit_deinit(core, &hit);
		else if (r < 0)
			return r;
	}
	/* Found missing when it is read, as by the kernel: the metadata is good. */
	hit_deinit(core, &found->data);
	return 0;
}

static int probe_all(struct core *core, struct node *parent, struct probe *p, struct found *found)
{
	int r = 0;

	if (parent->dir->upper)
		r = probe_upper(core, parent, p, found);
	if (r == 0 && !p->stop)
		r = probe_lowers(core, parent, p, found);
	if (r < 0)
		return r;
	if (p->metacopy && core->data_count && p->absolute && found->top.dir)
		return probe_data_layers(core, p, found);
	r = probe_check_follow(p);
	if (r < 0)
		return r;
	if (p->metacopy || (found->upper.dir && found->is_metacopy && !found->top.dir)) {
		log_warning_limited("%s: metacopy without data", p->want);
		return -EIO;
	}
	return 0;
}

int probe_layers(struct core *core, struct node *parent, const char *name, struct found *found)
{
	struct probe probe = { .core = core, .want = strdup(name) };

	if (!probe.want)
		return -ENOMEM;
	int r = probe_all(core, parent, &probe, found);

	free(probe.want);
	lowernames_note_misses(core, parent, probe.misses);
	return r;
}

/* Reads what the index entry in @fd says into @probe. */
static int probe_index_entry(struct probe *probe, int fd, const struct found *found)
{
	int r = probe_read_metacopy(probe, fd, found->upper.name, &found->upper.st);

	if (r < 0 || !probe->metacopy)
		return r;
	return probe->core->metacopy ? probe_read_redirect(probe, fd, found->upper.name, 0, "") :
				       -EPERM;
}

int probe_index_metacopy(struct core *core, struct found *found)
{
	struct probe probe = { .core = core };
	int fd = ldir_pin(&core->fds, found->upper.dir);

	if (fd < 0)
		return fd;
	int r = probe_index_entry(&probe, fd, found);

	ldir_unpin(found->upper.dir);
	/* Whatever the lower part is, its data is found from it. Its other names may need the
	 * redirect, though: where they are now, there may be nothing below. */
	if (r == 0) {
		found->is_metacopy = probe.metacopy;
		found->metacopy = probe.value;
		if (probe.absolute)
			found->redirect = ptr_take(probe.want);
	}
	free(probe.want);
	return r;
}
