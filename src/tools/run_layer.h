/* SPDX-License-Identifier: MIT */
/* The layer a run writes to: found or made, locked, looked at, removed. */
#ifndef VENEER_TOOLS_RUN_LAYER_H
#define VENEER_TOOLS_RUN_LAYER_H

#include "tools/run.h"

/* In its directory: the process that runs on it, which has it locked. */
#define RUN_LAYER_LOCK "lock"
/* The state directory of the runs within the run. */
#define RUN_LAYER_INNER "inner"

/*
 * The layer that the options name, or a new one in the state directory, locked: one run at a time.
 * 0, or -errno with a sentence in @why.
 */
int run_layer_open(struct run_plan *plan, struct strbuf *why);
/* Other commands may have it. */
void run_layer_unlock(struct run_layer *layer);
/*
 * Makes what the run has for its state directory: the layers of runs within it cannot lie in its union,
 * and those of others are not its. An O_PATH descriptor of a detached mount, or -errno with a sentence
 * in @why.
 */
int run_layer_open_inner(const struct run_layer *layer, struct strbuf *why);
/* It goes away if no layer was kept in it. */
void run_layer_close_inner(const struct run_layer *layer);
/* True if nothing was changed and no layer of a run within it was kept. */
bool run_layer_is_empty(const struct run_layer *layer);
/* Removes all of it. 0, or -errno with a sentence in @why. */
int run_layer_remove(const struct run_layer *layer, struct strbuf *why);
void run_layer_deinit(struct run_layer *layer);

/* The process that runs on the layer in @directory; 0: none does, or that cannot be told. */
pid_t run_layer_user(const char *directory);

#endif
