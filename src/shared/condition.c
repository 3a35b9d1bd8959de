#include "shared/condition.h"

#include "shared/heap.h"
#include "shared/waiter.h"

bool
fz_condition_begin(uint32_t *tickets, uint32_t name, uint32_t waiter)
{
	return fz_waiter_begin(waiter, name, (*tickets)++);
}

static void
notify_all(uint32_t name)
{
	struct fz_waiter w = { 0 };

	while (fz_waiter_next(&w, name, FZ_WAITER_WAITS))
		fz_waiter_notify(&w, FZ_WAITER_GO);
}

/* Find the living process that has waited longest. False if there is none. */
static bool
find_first(uint32_t name, struct fz_waiter *first)
{
	struct fz_waiter w = { 0 };

	*first = w;
	while (fz_waiter_next(&w, name, FZ_WAITER_WAITS)) {
		if (first->member != 0 && !fz_waiter_is_before(&w, first))
			continue;
		if (fz_heap_alive(w.member))
			*first = w;
	}
	return first->member != 0;
}

void
fz_condition_notify(uint32_t name, uint32_t n)
{
	struct fz_waiter first;

	if (n == FZ_CONDITION_ALL) {
		notify_all(name);
		return;
	}
	while (n > 0 && find_first(name, &first))
		n -= fz_waiter_notify(&first, FZ_WAITER_GO);
}

void
fz_condition_recover(uint32_t name)
{
	struct fz_waiter w = { 0 };

	while (fz_waiter_next(&w, name, FZ_WAITER_GO)) {
		if (!fz_heap_alive(w.member) &&
		    fz_waiter_notify(&w, FZ_WAITER_NONE))
			fz_condition_notify(name, 1);
	}
}
