/* SPDX-License-Identifier: MIT */
/* Opening the layers of a union, and the checks kernel overlayfs makes of them. */
#ifndef VENEER_CORE_LAYERS_H
#define VENEER_CORE_LAYERS_H

#include "core/internal.h"

#define LAYERS_MAX 500 /* lowers of one mount, as in the kernel */

/*
 * Fills core->layers and core->traps, and locks and prepares the work directory.  They become
 * private clones of their mounts where that is allowed, lowers read-only ones.  0 or -errno with a sentence in
 * @why; layers_close() either way.
 */
int layers_open(struct core *core, const struct core_config *config, struct strbuf *why);
void layers_close(struct core *core);

#endif
