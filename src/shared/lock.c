#include "shared/lock.h"

#include "base/clock.h"
#include "shared/heap.h"

enum fz_lock_state
fz_lock_recover(struct fz_lock *lock, uint32_t self)
{
	uint32_t owner = atomic_load(&lock->owner);

	if (owner == 0 || owner == FZ_LOCK_LEFT)
		return fz_lock_adopt(lock, self);
	if (fz_heap_alive(owner) ||
	    !atomic_compare_exchange_strong(&lock->owner, &owner, self))
		return FZ_LOCK_BUSY;
	return FZ_LOCK_ABANDONED;
}

bool
fz_lock_wait(struct fz_lock *lock, uint32_t self, int64_t until_ns)
{
	struct fz_eventcount *waiters = &lock->waiters;

	for (;;) {
		uint32_t seq =
		    fz_eventcount_prepare(waiters, FZ_EVENTCOUNT_SLEEP);

		if (fz_lock_recover(lock, self) != FZ_LOCK_BUSY)
			break;
		if (fz_clock_ns() >= until_ns)
			return false;
		fz_eventcount_commit(waiters, seq, until_ns);
	}
	fz_eventcount_rearm(waiters);
	return true;
}
