/* SPDX-License-Identifier: MIT */
/*
 * Layers at rest, looked through by the rules of the format (docs/format.md
 * "Lookup"), down to the real objects: what core/core.h hides, namely which
 * object of which layer a name is made of, and by which way it was found.
 *
 * The layers may be cut in two: `inner` ones, which a command is about, over the
 * others.  Then a lookup also tells under which path the others were asked.
 * Descriptors are O_PATH; nothing is cached and nothing is written.
 */
#ifndef VENEER_OFFLINE_STACK_H
#define VENEER_OFFLINE_STACK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "format/lowerdir.h"
#include "format/xattr_name.h"

struct stack_layer {
	char *path; /* as given; owned */
	int fd; /* of the root; owned */
	uint8_t uuid[16]; /* of its file system; zeros: none */
};

struct stack {
	struct stack_layer *layers; /* top first; owned */
	unsigned int count; /* of those that merge */
	unsigned int data_count; /* of the data-only ones, which come after them */
	unsigned int inner; /* how many of them are above the cut */
	bool has_upper; /* the topmost is an upper, in which `.wh.` names are ordinary */
	enum xattr_namespace ns;
};

#define STACK_INIT ((struct stack){ 0 })

/*
 * Opens one more layer below the others; data-only ones come last. 0 or -errno with a sentence in
 * @why. stack_deinit() in any case.
 */
int stack_add(struct stack *stack, const char *path, bool is_data, struct strbuf *why);
int stack_add_list(struct stack *stack, const struct lowerdir_list *list, struct strbuf *why);
void stack_deinit(struct stack *stack);

/* A real directory that takes part in one of the union. */
struct stack_part {
	unsigned int layer;
	int fd; /* owned */
	bool may_hide; /* there may be `.wh.` names in it */
};

/* A directory of the union. */
struct stack_dir {
	struct stack_part *parts; /* top first; owned */
	unsigned int count;
	/*
	 * Its path in the union of the layers below the cut alone ("" is the root), which may have
	 * nothing there; NULL: they have no part in it whatever they hold. Owned.
	 */
	char *below;
};

#define STACK_DIR_INIT ((struct stack_dir){ 0 })

int stack_root(const struct stack *stack, struct stack_dir *root);
void stack_dir_deinit(struct stack_dir *dir);
/* How many of the parts are above the cut. */
unsigned int stack_dir_inner(const struct stack *stack, const struct stack_dir *dir);

/* One real object of a file. */
struct stack_hit {
	unsigned int layer;
	int fd; /* owned; -1: there is none */
	struct statx st;
};

enum stack_kind {
	STACK_NOTHING,
	STACK_FILE, /* of any type but a directory */
	STACK_DIR,
};

struct stack_found {
	enum stack_kind kind;
	struct stack_dir dir; /* if it is one; parts[0] is the topmost */
	struct stack_hit top; /* of a file */
	struct stack_hit data; /* of a metacopy file: where its data is; no descriptor: missing */
	bool is_metacopy; /* the topmost object is one */
	bool is_absolute; /* the last redirect on the way was an absolute one */
	char *below; /* of a file: as in struct stack_dir */
};

#define STACK_FOUND_INIT ((struct stack_found){ .top.fd = -1, .data.fd = -1 })

/*
 * What @name in @parent is, asking the layers from number @first on alone (0: all). 0, or -errno:
 * -EINVAL a redirect that is none, ... @found is initialised; deinitialise it in any case.
 */
int stack_lookup(const struct stack *stack, const struct stack_dir *parent, const char *name,
		 unsigned int first, struct stack_found *found);
void stack_found_deinit(struct stack_found *found);

/*
 * Every name that a part of @dir in one of the layers [@first, @end) has something to say of, each
 * once, sorted, whether there is such an object in the end or not. The caller's to deinitialise.
 */
struct entry_names;
int stack_names(const struct stack *stack, struct stack_dir *dir, unsigned int first,
		unsigned int end, struct entry_names *names);

#define _cleanup_stack_ _cleanup_(stack_deinit)
#define _cleanup_stack_dir_ _cleanup_(stack_dir_deinit)
#define _cleanup_stack_found_ _cleanup_(stack_found_deinit)

#endif
