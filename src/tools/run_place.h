/* SPDX-License-Identifier: MIT */
/* Where the layer of a run is: the directory and what it is called. */
#ifndef VENEER_TOOLS_RUN_PLACE_H
#define VENEER_TOOLS_RUN_PLACE_H

#include "tools/run.h"

/*
 * The directory that the options name, made if it is not there, or a new one in the state directory.
 * 0, or -errno with a sentence in @why.
 */
int run_place_layer(const struct run_options *options, struct run_layer *layer, struct strbuf *why);

#endif
