/* SPDX-License-Identifier: MIT */
#include "offline/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "format/redirect.h"
#include "format/whiteout.h"
#include "offline/entry.h"
#include "sys/file.h"
#include "sys/handle.h"

/* ---- the layers ---- */

void stack_deinit(struct stack *stack)
{
	for (unsigned int i = 0; i < stack->count + stack->data_count; i++) {
		free(stack->layers[i].path);
		cleanup_close(&stack->layers[i].fd);
	}
	free(stack->layers);
	*stack = STACK_INIT;
}

static void stack_read_uuid(struct stack_layer *layer)
{
	_cleanup_close_ int fd = sys_reopen(layer->fd, O_RDONLY | O_DIRECTORY);
	uint8_t uuid[sizeof(layer->uuid)];

	if (fd >= 0 && sys_fs_uuid(fd, uuid) == 0)
		memcpy(layer->uuid, uuid, sizeof(uuid));
}

int stack_add(struct stack *stack, const char *path, bool is_data, struct strbuf *why)
{
	unsigned int total = stack->count + stack->data_count;
	struct stack_layer *more = reallocarray(stack->layers, total + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	stack->layers = more;
	int fd = sys_open_path(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		strbuf_append_format(why, "%s: %s", path, strerror(-fd));
		return fd;
	}
	more[total] = (struct stack_layer){ .path = strdup(path), .fd = fd };
	stack_read_uuid(&more[total]);
	if (is_data)
		stack->data_count++;
	else
		stack->count++;
	return more[total].path ? 0 : -ENOMEM;
}

int stack_add_list(struct stack *stack, const struct lowerdir_list *list, struct strbuf *why)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < list->count; i++)
		r = stack_add(stack, list->items[i].path, list->items[i].data_only, why);
	return r;
}

/* True if `.wh.` names mean something in it. */
static bool stack_reads_names(const struct stack *stack, unsigned int layer)
{
	return layer > 0 || !stack->has_upper;
}

/* ---- directories ---- */

void stack_dir_deinit(struct stack_dir *dir)
{
	for (unsigned int i = 0; i < dir->count; i++)
		cleanup_close(&dir->parts[i].fd);
	free(dir->parts);
	free(dir->below);
	*dir = STACK_DIR_INIT;
}

/* Takes @fd over. */
static int stack_dir_add(const struct stack *stack, struct stack_dir *dir, unsigned int layer,
			 int fd)
{
	struct stack_part *more = reallocarray(dir->parts, dir->count + 1, sizeof(*more));

	if (!more) {
		cleanup_close(&fd);
		return -ENOMEM;
	}
	dir->parts = more;
	more[dir->count++] = (struct stack_part){
		.layer = layer,
		.fd = fd,
		.may_hide = stack_reads_names(stack, layer),
	};
	return 0;
}

int stack_root(const struct stack *stack, struct stack_dir *root)
{
	*root = STACK_DIR_INIT;
	root->below = strdup("");
	int r = root->below ? 0 : -ENOMEM;

	for (unsigned int i = 0; r == 0 && i < stack->count; i++) {
		int fd = sys_dup(stack->layers[i].fd);

		r = fd < 0 ? fd : stack_dir_add(stack, root, i, fd);
	}
	return r;
}

unsigned int stack_dir_inner(const struct stack *stack, const struct stack_dir *dir)
{
	unsigned int count = 0;

	while (count < dir->count && dir->parts[count].layer < stack->inner)
		count++;
	return count;
}

/* ---- a lookup ---- */

/* A lookup on its way down; the names are those of core's own, which does the same on a mount. */
struct stack_probe {
	const struct stack *stack;
	char *want; /* what the next layer is asked for: a name, or an absolute path; owned */
	bool is_dir, metacopy; /* the last object found */
	bool stop;
};

/* One component, in one layer. */
struct stack_step {
	unsigned int layer;
	int dirfd;
	char name[NAME_MAX + 1];
	size_t before; /* how much of probe->want is before the name */
	const char *post; /* what comes after it: "", or "/..." */
	bool may_hide;
	struct entry entry;
};

void stack_found_deinit(struct stack_found *found)
{
	stack_dir_deinit(&found->dir);
	cleanup_close(&found->top.fd);
	cleanup_close(&found->data.fd);
	free(found->below);
	*found = STACK_FOUND_INIT;
}

static int stack_exists(int dirfd, const char *name)
{
	struct statx st;
	int r = sys_stat(dirfd, name, &st);

	return r == 0 ? S_ISREG(st.stx_mode) : r == -ENOENT || r == -ENAMETOOLONG ? 0 : r;
}

/* 1 if the layer hides the name from those below by a `.wh.` name. */
static int stack_hides(const struct stack_step *step)
{
	char hidden[NAME_MAX + 1];

	if (!step->may_hide || strlen(step->name) + WHITEOUT_PREFIX_LENGTH > NAME_MAX)
		return 0;
	strcpy(stpcpy(hidden, WHITEOUT_PREFIX), step->name);
	return stack_exists(step->dirfd, hidden);
}

/* 1 if the directory that was found is opaque. */
static int stack_is_opaque(const struct stack_probe *p, const struct stack_step *step)
{
	char marker[NAME_MAX + sizeof(WHITEOUT_OPAQUE_NAME) + 1];

	if (step->entry.opaque == OPAQUE_YES || !stack_reads_names(p->stack, step->layer))
		return step->entry.opaque == OPAQUE_YES;
	strcpy(stpcpy(stpcpy(marker, step->name), "/"), WHITEOUT_OPAQUE_NAME);
	struct statx st;
	int r = sys_stat(step->dirfd, marker, &st);

	return r == 0 ? 1 : r == -ENOENT || r == -ENAMETOOLONG ? 0 : r;
}

/* The layers below are asked for the redirect's target. */
static int stack_follow(struct stack_probe *p, struct stack_found *found,
			const struct stack_step *step)
{
	_cleanup_strbuf_ struct strbuf want = STRBUF_INIT;

	if (step->entry.has_bad_redirect)
		return -EINVAL;
	if (!step->entry.redirect)
		return 0;
	found->is_absolute = redirect_is_absolute(step->entry.redirect);
	if (found->is_absolute)
		p->stop = false; /* an opaque directory on the way does not end this search */
	else
		strbuf_append(&want, p->want, step->before);
	strbuf_append_string(&want, step->entry.redirect);
	strbuf_append_string(&want, step->post);
	free(p->want);
	p->want = strbuf_take(&want);
	return p->want ? 0 : -ENOMEM;
}

/* 1 if the directory counts, which it does. */
static int stack_take_dir(struct stack_probe *p, struct stack_found *found,
			  const struct stack_step *step)
{
	if (!*step->post)
		p->is_dir = true;
	int opaque = stack_is_opaque(p, step);

	if (opaque < 0)
		return opaque;
	if (opaque) {
		p->stop = true;
		return 1;
	}
	int r = stack_follow(p, found, step);

	return r < 0 ? r : 1;
}

static int stack_take_file(struct stack_probe *p, struct stack_found *found,
			   const struct stack_step *step)
{
	if (p->is_dir || *step->post) {
		p->stop = true; /* a file ends the merging of directories above it */
		return 0;
	}
	p->metacopy = step->entry.is_metacopy;
	p->stop = !p->metacopy;
	int r = p->metacopy ? stack_follow(p, found, step) : 0;

	return r < 0 ? r : 1;
}

/* 1: step->entry is an object that counts; 0: none; or -errno. */
static int stack_component(struct stack_probe *p, struct stack_found *found,
			   struct stack_step *step)
{
	if (stack_reads_names(p->stack, step->layer) &&
	    whiteout_name_kind(step->name) != WHITEOUT_NAME_NONE)
		return 0;
	int r = entry_read(step->dirfd, step->name, p->stack->ns, &step->entry);

	if (r < 0 && r != -ENOENT && r != -ENAMETOOLONG)
		return r;
	bool is_found = r == 0, is_dir = is_found && S_ISDIR(step->entry.st.stx_mode);

	if (!is_found || is_dir) {
		r = stack_hides(step);
		if (r < 0)
			return r;
		p->stop |= r > 0;
	}
	if (!is_found)
		return 0;
	bool ends_chain = !*step->post && p->metacopy && !S_ISREG(step->entry.st.stx_mode);

	if (step->entry.is_whiteout || ends_chain) {
		p->stop = true;
		return 0;
	}
	return is_dir ? stack_take_dir(p, found, step) : stack_take_file(p, found, step);
}

/*
 * Follows p->want from the root of a layer. A redirect met on the way replaces what was behind us
 * for the layers below, so the position is counted from the end.
 */
static int stack_path(struct stack_probe *p, struct stack_found *found, struct stack_step *step,
		      int *fd)
{
	_cleanup_close_ int at = sys_dup(p->stack->layers[step->layer].fd);
	size_t rest = strlen(p->want) - 1; /* behind the leading slash */

	while (at >= 0) {
		size_t length = strlen(p->want);
		const char *component = p->want + length - rest;
		size_t size = strcspn(component, "/");
		_cleanup_free_ char *post = strdup(component + size);

		if (!post)
			return -ENOMEM;
		if (size > NAME_MAX)
			return 0;
		memcpy(step->name, component, size);
		step->name[size] = '\0';
		step->dirfd = at;
		step->before = length - rest;
		step->post = post;
		int r = stack_component(p, found, step);
		int next = r > 0 ? sys_open(at, step->name, O_PATH | O_NOFOLLOW, 0) : -1;

		if (r <= 0)
			return r;
		if (next < 0 || !*post) {
			*fd = next;
			return next < 0 ? next : 1;
		}
		entry_deinit(&step->entry);
		close(at);
		at = next;
		rest -= size + 1;
	}
	return at;
}

static const struct stack_part *stack_part_of(const struct stack_dir *dir, unsigned int layer)
{
	for (unsigned int i = 0; i < dir->count; i++)
		if (dir->parts[i].layer == layer)
			return &dir->parts[i];
	return NULL;
}

/* Looks for p->want in one layer. 1 with *@fd and *@st, 0 or -errno. */
static int stack_layer_find(struct stack_probe *p, const struct stack_dir *parent,
			    struct stack_found *found, unsigned int layer, struct stack_hit *hit)
{
	const struct stack_part *part = stack_part_of(parent, layer);
	struct stack_step step = { .layer = layer, .post = "" };
	int r = 0;

	hit->layer = layer;
	hit->fd = -1;
	step.may_hide = stack_reads_names(p->stack, layer);
	if (p->want[0] == '/') {
		r = stack_path(p, found, &step, &hit->fd);
	} else if (part && strlen(p->want) <= NAME_MAX) {
		strcpy(step.name, p->want);
		step.dirfd = part->fd;
		step.may_hide = part->may_hide;
		r = stack_component(p, found, &step);
		if (r > 0)
			hit->fd = sys_open(part->fd, step.name, O_PATH | O_NOFOLLOW, 0);
		if (r > 0 && hit->fd < 0)
			r = hit->fd;
	}
	hit->st = step.entry.st;
	entry_deinit(&step.entry);
	return r;
}

/* Takes the hit over. */
static int stack_take_hit(struct stack_probe *p, struct stack_found *found, struct stack_hit *hit)
{
	if (p->is_dir) {
		found->kind = STACK_DIR;
		return stack_dir_add(p->stack, &found->dir, hit->layer, hit->fd);
	}
	if (found->kind == STACK_NOTHING) {
		found->kind = STACK_FILE;
		found->top = *hit;
		found->is_metacopy = p->metacopy;
		return 0;
	}
	cleanup_close(&found->data.fd);
	found->data = *hit;
	return 0;
}

/* The search passes the cut: where to is remembered. */
static int stack_pass_cut(const struct stack_probe *p, const struct stack_dir *parent,
			  struct stack_found *found)
{
	_cleanup_strbuf_ struct strbuf below = STRBUF_INIT;

	if (p->want[0] != '/') {
		if (!parent->below)
			return 0;
		strbuf_append_string(&below, parent->below);
		strbuf_append_string(&below, "/");
	}
	strbuf_append_string(&below, p->want);
	found->below = strbuf_take(&below);
	return found->below ? 0 : -ENOMEM;
}

/* The data of a metacopy file in the data-only layers, under an absolute redirect. */
static int stack_data_layers(struct stack_probe *p, struct stack_found *found)
{
	const struct stack_dir none = STACK_DIR_INIT;
	const unsigned int end = p->stack->count + p->stack->data_count;
	int r = 0;

	cleanup_close(&found->data.fd);
	found->data.fd = -1;
	for (unsigned int i = p->stack->count; r == 0 && i < end; i++) {
		struct stack_probe path = { .stack = p->stack, .want = strdup(p->want) };
		struct stack_found unused = STACK_FOUND_INIT;
		struct stack_hit hit;

		r = path.want ? stack_layer_find(&path, &none, &unused, i, &hit) : -ENOMEM;
		free(path.want);
		if (r > 0 && S_ISREG(hit.st.stx_mode)) {
			found->data = hit;
		} else if (r > 0) {
			close(hit.fd);
			r = 0;
		}
	}
	return r < 0 ? r : 0;
}

static int stack_search(struct stack_probe *p, const struct stack_dir *parent, unsigned int first,
			struct stack_found *found)
{
	struct stack_hit hit;
	int r = 0;

	for (unsigned int i = first; i < p->stack->count && !p->stop; i++) {
		if (i == p->stack->inner)
			r = stack_pass_cut(p, parent, found);
		if (r == 0)
			r = stack_layer_find(p, parent, found, i, &hit);
		if (r > 0)
			r = stack_take_hit(p, found, &hit);
		if (r < 0)
			return r;
	}
	/* A chain that has not come to its end has no data. */
	bool is_chain = found->kind == STACK_FILE && p->metacopy;

	if (is_chain && p->want[0] == '/' && p->stack->data_count > 0)
		return stack_data_layers(p, found);
	if (is_chain) {
		cleanup_close(&found->data.fd);
		found->data.fd = -1;
	}
	return 0;
}

int stack_lookup(const struct stack *stack, const struct stack_dir *parent, const char *name,
		 unsigned int first, struct stack_found *found)
{
	struct stack_probe probe = { .stack = stack, .want = strdup(name) };

	*found = STACK_FOUND_INIT;
	if (!probe.want)
		return -ENOMEM;
	int r = stack_search(&probe, parent, first, found);

	free(probe.want);
	if (r == 0 && found->kind == STACK_DIR)
		found->dir.below = ptr_take(found->below);
	return r;
}

/* ---- listing ---- */

/* Brings the names of one part among the others; `.wh.NAME` counts as a word on NAME. */
static int stack_names_merge(const struct stack *stack, struct stack_part *part,
			     struct entry_names *read, struct entry_names *names)
{
	bool reads_names = stack_reads_names(stack, part->layer);
	char **more = reallocarray(names->names, names->count + read->count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	names->names = more;
	part->may_hide = false;
	for (size_t i = 0; i < read->count; i++) {
		char *name = ptr_take(read->names[i]);
		enum whiteout_name kind = reads_names ? whiteout_name_kind(name) :
							WHITEOUT_NAME_NONE;

		if (kind == WHITEOUT_NAME_HIDES) {
			part->may_hide = true;
			memmove(name, name + WHITEOUT_PREFIX_LENGTH,
				strlen(name) - WHITEOUT_PREFIX_LENGTH + 1);
		}
		if (kind == WHITEOUT_NAME_NONE || kind == WHITEOUT_NAME_HIDES)
			more[names->count++] = name;
		else
			free(name);
	}
	read->count = 0;
	return 0;
}

static int stack_names_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void stack_names_unique(struct entry_names *names)
{
	size_t kept = 0;

	if (names->count > 1)
		qsort(names->names, names->count, sizeof(*names->names), stack_names_compare);
	for (size_t i = 0; i < names->count; i++) {
		if (kept > 0 && !strcmp(names->names[kept - 1], names->names[i]))
			free(names->names[i]);
		else
			names->names[kept++] = names->names[i];
	}
	names->count = kept;
}

int stack_names(const struct stack *stack, struct stack_dir *dir, unsigned int first,
		unsigned int end, struct entry_names *names)
{
	*names = ENTRY_NAMES_INIT;
	for (unsigned int i = 0; i < dir->count; i++) {
		struct stack_part *part = &dir->parts[i];
		_cleanup_entry_names_ struct entry_names read = ENTRY_NAMES_INIT;

		if (part->layer < first || part->layer >= end)
			continue;
		_cleanup_close_ int fd = sys_reopen(part->fd, O_RDONLY | O_DIRECTORY);

		if (fd < 0)
			return fd;
		sys_keep_atime(fd);
		int r = entry_names_read(fd, &read);

		if (r == 0)
			r = stack_names_merge(stack, part, &read, names);
		if (r < 0)
			return r;
	}
	stack_names_unique(names);
	return 0;
}
