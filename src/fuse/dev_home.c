/* SPDX-License-Identifier: MIT */
/* Within the device's transport: when near workers serve, and on which processor. */
#include "fuse/dev_crew.h"
#include "fuse/stats.h"
#include "sys/cpu.h"

/* No home again for so long after a request from a processor that is not ours. */
#define DEV_NOT_OURS_NS 1000000000U

void dev_crew_go_home(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;
	int home = atomic_load(&dev->home);

	if (worker->kind != DEV_NEAR || home == DEV_NO_HOME || home == worker->pinned)
		return;
	if (sys_cpu_pin((unsigned int)home) == 0)
		worker->pinned = home;
	else
		dev_crew_scatter(dev, stats_now_ns() + DEV_NOT_OURS_NS);
}

/* False: near workers would find no common one to call. */
static bool dev_crew_set_home(struct dev *dev, unsigned int cpu, uint64_t now)
{
	bool has_spare;

	lock_mutex_lock(&dev->lock);
	has_spare = dev->crews[DEV_COMMON].parked > 0;
	if (has_spare) {
		giveway_pause_finish(&dev->pause, now);
		atomic_store(&dev->home, (int)cpu);
	}
	lock_mutex_unlock(&dev->lock);
	return has_spare;
}

void dev_crew_gather(struct dev_worker *worker, unsigned int cpu, uint64_t now)
{
	struct dev *dev = worker->dev;

	if (cpu >= dev->cpu_count || !dev->is_ours[cpu]) {
		dev_crew_scatter(dev, now + DEV_NOT_OURS_NS);
		return;
	}
	if (atomic_load(&dev->home) != (int)cpu && !dev_crew_set_home(dev, cpu, now)) {
		/* There will be one when somebody says so again, in a millisecond. */
		if (worker->kind == DEV_COMMON)
			dev_crew_start_spare(dev);
		return;
	}
	/* Also those who parked while there was no home for a moment. */
	if (worker->kind == DEV_COMMON || atomic_load(&dev->crews[DEV_NEAR].parked) > 0)
		while (dev_crew_call_near(worker))
			;
}

void dev_crew_scatter(struct dev *dev, uint64_t until)
{
	lock_mutex_lock(&dev->lock);
	atomic_store(&dev->home, DEV_NO_HOME);
	if (atomic_load(&dev->no_home_until) < until)
		atomic_store(&dev->no_home_until, until);
	lock_mutex_unlock(&dev->lock);
}

void dev_crew_pause(struct dev *dev, uint64_t now)
{
	uint64_t end;

	lock_mutex_lock(&dev->lock);
	giveway_pause_begin(&dev->pause, now);
	end = dev->pause.end;
	lock_mutex_unlock(&dev->lock);
	dev_crew_scatter(dev, end);
}
