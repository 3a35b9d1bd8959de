#include "shared/barrier.h"

#include "base/clock.h"
#include "shared/heap.h"

enum { OPEN, RUNNING, RELEASING, RESETTING, BROKEN };

static void
notify_all(const struct fz_barrier *b, enum fz_waiter_state state)
{
	struct fz_waiter w = { 0 };

	while (fz_waiter_next(&w, b->name, FZ_WAITER_WAITS))
		fz_waiter_notify(&w, state);
}

static uint32_t
count_alive(const struct fz_barrier *b)
{
	struct fz_waiter w = { 0 };
	uint32_t n = 0;

	while (fz_waiter_next(&w, b->name, FZ_WAITER_WAITS))
		n += fz_heap_alive(w.member);
	return n;
}

/*
 * Break the barrier if a process of this round is dead, and notify the waiters
 * that a killed process did not notify.
 */
static void
settle(struct fz_barrier *b)
{
	uint32_t state = atomic_load(&b->state);

	if ((state == OPEN && count_alive(b) != b->count) ||
	    (state == RUNNING && !fz_heap_alive(atomic_load(&b->runner)))) {
		state = BROKEN;
		atomic_store(&b->state, state);
	}
	if (state == OPEN || state == RUNNING)
		return;
	notify_all(b, state == RELEASING ? FZ_WAITER_GO : FZ_WAITER_FAILS);
	if (state != BROKEN) {
		b->count = 0;
		atomic_store(&b->state, OPEN);
	}
	fz_eventcount_notify(&b->opening, FZ_EVENTCOUNT_ALL);
}

static void
change(struct fz_barrier *b, uint32_t state)
{
	atomic_store(&b->state, state);
	settle(b);
}

static void
lock(struct fz_barrier *b, uint32_t self)
{
	if (!fz_lock_try(&b->lock, self))
		fz_lock_wait(&b->lock, self, FZ_CLOCK_NEVER);
	settle(b);
}

static void
unlock(struct fz_barrier *b)
{
	fz_lock_release(&b->lock);
}

/* Let a process arrive at a barrier in the state OPEN. */
static enum fz_barrier_arrival
arrive(struct fz_barrier *b, uint32_t self, uint32_t waiter)
{
	if (b->count + 1 < b->parties) {
		if (!fz_waiter_begin(waiter, b->name, b->count))
			return FZ_BARRIER_TWICE;
		b->count++;
		return FZ_BARRIER_WAITS;
	}
	if (b->has_action) {
		atomic_store(&b->runner, self);
		change(b, RUNNING);
	} else {
		change(b, RELEASING);
	}
	return FZ_BARRIER_LAST;
}

enum fz_barrier_arrival
fz_barrier_arrive(
    struct fz_barrier *b, uint32_t self, uint32_t waiter, uint32_t *index)
{
	enum fz_barrier_arrival arrival = FZ_BARRIER_LATER;
	uint32_t state;

	lock(b, self);
	state = atomic_load(&b->state);
	*index = b->count;
	if (state == BROKEN)
		arrival = FZ_BARRIER_BROKEN;
	else if (state == OPEN)
		arrival = arrive(b, self, waiter);
	else if (atomic_load(&b->runner) == self)
		arrival = FZ_BARRIER_INSIDE;
	unlock(b);
	return arrival;
}

bool
fz_barrier_finish(struct fz_barrier *b, uint32_t self, bool well)
{
	bool ours;

	lock(b, self);
	ours = atomic_load(&b->state) == RUNNING &&
	       atomic_load(&b->runner) == self;
	if (ours)
		change(b, well ? RELEASING : BROKEN);
	unlock(b);
	return ours && well;
}

void
fz_barrier_check(struct fz_barrier *b, uint32_t self)
{
	if (fz_lock_recover(&b->lock, self) == FZ_LOCK_BUSY)
		return;
	settle(b);
	unlock(b);
}

enum fz_waiter_state
fz_barrier_leave(struct fz_barrier *b, uint32_t self, uint32_t waiter)
{
	if (fz_waiter_state(waiter) == FZ_WAITER_WAITS) {
		lock(b, self);
		if (fz_waiter_state(waiter) == FZ_WAITER_WAITS)
			change(b, BROKEN);
		unlock(b);
	}
	return fz_waiter_end(waiter);
}

void
fz_barrier_abort(struct fz_barrier *b, uint32_t self)
{
	lock(b, self);
	change(b, BROKEN);
	unlock(b);
}

void
fz_barrier_reset(struct fz_barrier *b, uint32_t self)
{
	lock(b, self);
	change(b, RESETTING);
	unlock(b);
}

uint32_t
fz_barrier_nwaiting(struct fz_barrier *b, uint32_t self)
{
	uint32_t n;

	lock(b, self);
	n = atomic_load(&b->state) == OPEN ? b->count : 0;
	unlock(b);
	return n;
}

bool
fz_barrier_is_broken(struct fz_barrier *b, uint32_t self)
{
	bool broken;

	lock(b, self);
	broken = atomic_load(&b->state) == BROKEN;
	unlock(b);
	return broken;
}
