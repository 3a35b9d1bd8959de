#include "shared/waiter.h"

#include "shared/heap.h"

enum { STATE_BITS = 2, NUMBER_BITS = 32 };

static uint64_t
word_of(uint32_t name, uint32_t number, enum fz_waiter_state state)
{
	return ((uint64_t)name << NUMBER_BITS | number) << STATE_BITS |
	       (uint64_t)state;
}

static enum fz_waiter_state
state_of(uint64_t word)
{
	return (enum fz_waiter_state)(word & ((1 << STATE_BITS) - 1));
}

static uint32_t
name_of(uint64_t word)
{
	return (uint32_t)(word >> (STATE_BITS + NUMBER_BITS));
}

static uint32_t
number_of(uint64_t word)
{
	return (uint32_t)(word >> STATE_BITS);
}

static struct fz_heap_wait *
own(uint32_t self)
{
	return fz_heap_wait(fz_heap_place(self));
}

bool
fz_waiter_begin(uint32_t self, uint32_t name, uint32_t number)
{
	struct fz_heap_wait *wait = own(self);

	if (atomic_load(&wait->what) != 0)
		return false;
	atomic_store(&wait->what, name);
	atomic_store(&wait->ticket, word_of(name, number, FZ_WAITER_WAITS));
	return true;
}

enum fz_waiter_state
fz_waiter_state(uint32_t self)
{
	return state_of(atomic_load(&own(self)->ticket));
}

struct fz_eventcount *
fz_waiter_wakeup(uint32_t self)
{
	return &own(self)->wakeup;
}

bool
fz_waiter_cancel(uint32_t self)
{
	struct fz_heap_wait *wait = own(self);
	uint64_t word = atomic_load(&wait->ticket);

	return state_of(word) == FZ_WAITER_WAITS &&
	       atomic_compare_exchange_strong(&wait->ticket, &word, 0);
}

enum fz_waiter_state
fz_waiter_end(uint32_t self)
{
	struct fz_heap_wait *wait = own(self);
	uint64_t word = atomic_exchange(&wait->ticket, 0);

	atomic_store(&wait->what, 0);
	return state_of(word);
}

bool
fz_waiter_next(struct fz_waiter *w, uint32_t name, enum fz_waiter_state state)
{
	uint32_t n = fz_heap_nplaces();

	for (uint32_t i = w->member != 0 ? w->place + 1 : 0; i < n; i++) {
		struct fz_heap_wait *wait = fz_heap_wait(i);
		uint32_t member = atomic_load(&wait->member);
		uint64_t word = atomic_load(&wait->ticket);

		if (member == 0 || name_of(word) != name ||
		    state_of(word) != state)
			continue;
		*w = (struct fz_waiter){ word, i, member };
		return true;
	}
	return false;
}

bool
fz_waiter_is_before(const struct fz_waiter *a, const struct fz_waiter *b)
{
	return (int32_t)(number_of(a->word) - number_of(b->word)) < 0;
}

bool
fz_waiter_notify(const struct fz_waiter *w, enum fz_waiter_state state)
{
	struct fz_heap_wait *wait = fz_heap_wait(w->place);
	uint64_t before = w->word;
	uint64_t after = word_of(name_of(before), number_of(before), state);

	if (!atomic_compare_exchange_strong(&wait->ticket, &before, after))
		return false;
	fz_eventcount_notify(&wait->wakeup, FZ_EVENTCOUNT_ALL);
	return true;
}
