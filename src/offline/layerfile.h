/* SPDX-License-Identifier: MIT */
/*
 * layer.json: what a kept layer lies over and where it came from
 * (docs/layer.md).  It lies beside `upper` and `work` in the layer's directory.
 */
#ifndef VENEER_OFFLINE_LAYERFILE_H
#define VENEER_OFFLINE_LAYERFILE_H

#include <stdbool.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "format/lowerdir.h"

#define LAYERFILE_NAME "layer.json"
/* What is to become it. */
#define LAYERFILE_TEMP LAYERFILE_NAME ".new"
#define LAYERFILE_UPPER "upper"
#define LAYERFILE_WORK "work"

struct layerfile {
	struct lowerdir_list lowers; /* absolute paths; owned, as is the rest */
	bool cross_mounts; /* what is mounted in the lowers belongs to them */
	bool userxattr; /* private attributes are user.overlay.* */
	struct timespec created;
	char **command; /* of the first run, NULL at its end; may be NULL */
	bool is_temporary; /* nobody named it: it goes when nothing is in it */
	bool is_discarded; /* of a run that wanted no changes: it goes with whatever is in it */
};

#define LAYERFILE_INIT ((struct layerfile){ 0 })

/*
 * Reads @directory/layer.json. 0; -ENOENT: there is none; or -errno with a sentence in @why, which
 * names the file: -EINVAL for one that is damaged or of a newer veneer. To be deinitialised in any case.
 */
int layerfile_read(const char *directory, struct layerfile *file, struct strbuf *why);
/*
 * Writes it, the old one or the new one being there at any time; of a long command the beginning.
 * 0 or -errno, as above.
 */
int layerfile_write(const char *directory, const struct layerfile *file, struct strbuf *why);
void layerfile_deinit(struct layerfile *file);

#define _cleanup_layerfile_ _cleanup_(layerfile_deinit)

#endif
