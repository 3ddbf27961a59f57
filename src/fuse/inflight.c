/* SPDX-License-Identifier: MIT */
#include "fuse/inflight.h"

#include <assert.h>

/* The kernel counts in steps of two: the lowest bit marks the INTERRUPT itself. */
static struct inflight_stripe *inflight_stripe(struct inflight *table, uint64_t unique)
{
	return &table->stripes[(unique >> 1) % INFLIGHT_STRIPES];
}

void inflight_init(struct inflight *table)
{
	for (size_t i = 0; i < INFLIGHT_STRIPES; i++) {
		struct inflight_stripe *stripe = &table->stripes[i];

		*stripe = (struct inflight_stripe){ 0 };
		lock_mutex_init(&stripe->lock, LOCK_RANK_LEAF);
		list_init(&stripe->requests);
	}
}

void inflight_deinit(struct inflight *table)
{
	for (size_t i = 0; i < INFLIGHT_STRIPES; i++) {
		assert(list_is_empty(&table->stripes[i].requests));
		lock_mutex_deinit(&table->stripes[i].lock);
	}
}

void inflight_add(struct inflight *table, struct fuse_request *request)
{
	struct inflight_stripe *stripe = inflight_stripe(table, request->unique);

	lock_mutex_lock(&stripe->lock);
	list_add_tail(&stripe->requests, &request->inflight);
	stripe->count++;
	for (size_t i = 0; i < INFLIGHT_EARLY; i++) {
		if (request->unique && stripe->early[i] == request->unique) {
			stripe->early[i] = 0;
			atomic_store(&request->interrupted, true);
		}
	}
	lock_mutex_unlock(&stripe->lock);
}

void inflight_remove(struct inflight *table, struct fuse_request *request)
{
	struct inflight_stripe *stripe = inflight_stripe(table, request->unique);

	lock_mutex_lock(&stripe->lock);
	if (!list_is_empty(&request->inflight)) {
		list_remove(&request->inflight);
		stripe->count--;
	}
	lock_mutex_unlock(&stripe->lock);
}

void inflight_interrupt(struct inflight *table, uint64_t unique)
{
	struct inflight_stripe *stripe = inflight_stripe(table, unique);
	struct list *at;
	bool found = false;

	lock_mutex_lock(&stripe->lock);
	list_for_each(at, &stripe->requests) {
		struct fuse_request *request = list_entry(at, struct fuse_request, inflight);

		if (request->unique != unique)
			continue;
		atomic_store(&request->interrupted, true);
		found = true;
		break;
	}
	/* Not there: it comes yet, or it was answered and this number is never seen again. */
	if (!found)
		stripe->early[stripe->next_early++ % INFLIGHT_EARLY] = unique;
	lock_mutex_unlock(&stripe->lock);
}

unsigned int inflight_count(struct inflight *table)
{
	unsigned int count = 0;

	for (size_t i = 0; i < INFLIGHT_STRIPES; i++) {
		lock_mutex_lock(&table->stripes[i].lock);
		count += table->stripes[i].count;
		lock_mutex_unlock(&table->stripes[i].lock);
	}
	return count;
}
