/* SPDX-License-Identifier: MIT */
/* Layers that nobody named and that a killed run has left. */
#ifndef VENEER_TOOLS_RUN_SWEEP_H
#define VENEER_TOOLS_RUN_SWEEP_H

/*
 * Removes from the state directory @state what no run is on and no run would have kept: temporary
 * layers in which nothing is, and those that were to be discarded. What cannot be removed stays.
 */
void run_sweep(const char *state);

#endif
