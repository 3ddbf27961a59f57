/* SPDX-License-Identifier: MIT */
/*
 * The pages of a large lower file that its first writer is most likely to begin with.
 *
 * A write(2) of a part of a page that the kernel's cache does not have holds
 * that page locked until the write is answered, so until the file is copied
 * up, and who reads that page waits as long.  Not so if the cache has it.
 * Headers are at the begin of a file, and what is appended goes behind its end.
 *
 * What is put into the cache must not be older than what is there.  So it is
 * done for whoever is the only one to have the file open, before his open is
 * answered, and anybody else who opens, truncates or otherwise copies it up
 * waits (NODE_WARMING).  As nobody can read or write the file meanwhile, no page
 * of it is locked for long: storing waits for no request, and so do they.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/attr.h"
#include "core/datafd.h"
#include "core/internal.h"
#include "sys/file.h"

/* Less is copied in a few milliseconds. */
#define WARM_SIZE_MIN (UINT64_C(8) << 20)

struct warming {
	core_store_fn *store;
	void *context;
	uint64_t node;
	uint64_t size; /* of the file */
	size_t page;
	int fd;
	unsigned char *buf; /* of a page */
};

/* Whether this thread is to do it: then nobody else opens the file until warm_end(). */
static bool warm_begin(struct core *core, struct node *node)
{
	node_lock(core, node);
	bool wanted = node->file && node->file->opens == 1 && !node_has(node, NODE_COPYING) &&
		      !node_has(node, NODE_WARMING) &&
		      (!node_has(node, NODE_UPPER) || node_has(node, NODE_METACOPY));

	if (wanted)
		node_set(node, NODE_WARMING);
	node_unlock(core, node);
	return wanted;
}

static void warm_end(struct core *core, struct node *node)
{
	node_lock(core, node);
	node_clear(node, NODE_WARMING);
	node_wake(core, node);
	node_unlock(core, node);
}

/* The page at @offset, or what the file has of it. Failing is no loss. */
static void warm_page(const struct warming *warming, uint64_t offset)
{
	uint64_t rest = warming->size - offset;
	size_t size = rest < warming->page ? (size_t)rest : warming->page;

	if (sys_pread(warming->fd, warming->buf, size, (off_t)offset) == (ssize_t)size)
		warming->store(warming->context, warming->node, offset, warming->buf, size);
}

static void warm_pages(struct core *core, struct node *node, struct warming *warming)
{
	struct datafd *data;
	struct statx st;

	/* Not more than the kernel thinks that there is: storing would make the file longer. */
	if (attr_get(core, node, &st) < 0 || st.stx_size < WARM_SIZE_MIN)
		return;
	_cleanup_free_ unsigned char *buf = malloc(warming->page);

	warming->size = st.stx_size;
	warming->buf = buf;
	warming->fd = buf ? datafd_acquire(core, node, false, &data) : -ENOMEM;
	if (warming->fd < 0)
		return;
	warm_page(warming, 0);
	warm_page(warming, (warming->size - 1) / warming->page * warming->page);
	datafd_release(core, data);
}

void core_warm(struct core *core, uint64_t id, core_store_fn *store, void *context)
{
	struct warming warming = {
		.store = store,
		.context = context,
		.node = id,
		.page = (size_t)sysconf(_SC_PAGESIZE),
	};
	/* Who edits the layers waits for nobody. */
	struct node *node = core->layers_change || core->watch ? NULL : node_find(core, id);

	if (!node)
		return;
	if (warm_begin(core, node)) {
		warm_pages(core, node, &warming);
		warm_end(core, node);
	}
	node_unref(core, node);
}
