#include "shared/lock.h"

#include "shared/heap.h"

enum fz_lock_state
fz_lock_recover(struct fz_lock *lock, uint32_t self)
{
	uint32_t owner = atomic_load(&lock->owner);

	if (owner == 0)
		return fz_lock_try(lock, self) ? FZ_LOCK_ACQUIRED
					       : FZ_LOCK_BUSY;
	if (fz_heap_alive(owner) ||
	    !atomic_compare_exchange_strong(&lock->owner, &owner, self))
		return FZ_LOCK_BUSY;
	return FZ_LOCK_ABANDONED;
}
